"""The figures of the board, as inline SVG. One file each; see README.md beside this folder for how to add one."""
