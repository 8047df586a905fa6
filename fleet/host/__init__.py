"""What runs on a host: one POSIX sh program, kept in parts in `program/`, and the words to talk with it."""
