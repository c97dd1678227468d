"""Memory and cores of the machine, and accounts of them."""
