"""Published examples with numbers, each reproduced from a program text."""
