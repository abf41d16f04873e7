"""Reading recordings: files, bytes and arrays become the one form that processors take.

This file knows that recordings come before processing; each module beside it knows one kind of recording.
"""
