# Reads a line and runs it: what comes after it is the command's stdin. No login shell may read anything into this script,
# so it has none of the characters that csh, fish or xonsh do not leave alone in quotes: ' ! \ and names of variables.
IFS= read -r fleet_line && eval "$fleet_line"
