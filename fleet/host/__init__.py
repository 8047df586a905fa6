"""The host program, which runs on each host, and what is needed to talk with it.

It is one program for POSIX sh, kept in parts in `program/`.
"""
