"""Credit: which turn is paid for what, each way against exact enumeration. docs/credit.md has the table."""
