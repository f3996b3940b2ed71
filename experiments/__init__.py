"""How good: methods compared under equal budgets, with their tables and plots. How fast is in `benchmarks/`."""
