# Tells what run.sh has kept: stdout and stderr, each with LAB_ID behind it, and the exit status.
id=${id:-$LAB_ID}
cat "/dev/shm/$id.out"
printf %s "$id"
cat "/dev/shm/$id.err" >&2
printf %s "$id" >&2
exit "$(cat "/dev/shm/$id.status")"
