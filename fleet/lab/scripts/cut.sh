# From now on a packet comes in or goes out only if rules $1 of nftables say so.
nft -f - <<RULES
table inet lab-fault
delete table inet lab-fault
table inet lab-fault {
    chain in { type filter hook input priority -300; iif lo accept; $1 }
    chain out { type filter hook output priority -300; oif lo accept; $1 }
}
RULES
