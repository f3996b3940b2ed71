"""The layers under the candidate operations, fast on CPU, GPU and TPU, differentiable twice."""
