"""Independent reference implementations for the tests, written from the specification, without code of the toolkit."""
