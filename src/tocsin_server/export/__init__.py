"""Files for other programs and people, written from the same definitions that Tocsin runs."""
