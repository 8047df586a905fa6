# The shell has read the whole program by now. It may come on stdin, and be cut short with the connection.
[ -e /proc/self/status ] || use_launchd
main "$@"
