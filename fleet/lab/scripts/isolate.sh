# From now on nothing leaves this host but what answers this machine: a network that it does not know it cannot reach.
for family in -4 -6; do
    while ip "$family" route del default 2>/dev/null; do :; done
done
