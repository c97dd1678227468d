"""The measurements of the project, one package for each; run as `python -m benchmarks.load` and so on."""
