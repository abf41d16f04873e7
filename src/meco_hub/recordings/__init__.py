"""Reading recordings: files, bytes and arrays become the one form that processors take."""
