"""Independent answers for the tests: written from the specification, sharing no code with what they check."""
