"""What runs on a host: `fleet-host`, one POSIX sh program, and the words to talk with it."""
