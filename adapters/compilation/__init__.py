"""The adapting forward compiled to machine code."""
