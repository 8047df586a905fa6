/* Whose turn it is on a host, for the model checker Spin: runs that wait for each other and share nothing else.
 *
 * Each waiter leaves a ticket, may die or fall asleep at any moment, and begins when the host says that it is its turn. A
 * transaction ends by the host's own means, whether or not its controller lives. A person may switch at any moment at which
 * no transaction is open, and waits for nobody.
 * Time is modelled by what it does: the ticket of a dead waiter may be dropped at any moment, and that of a sleeping one too.
 *
 * Taken out with -D, to see that the checker notices:
 *   NO_TICKETS    whoever comes first begins
 *   NO_DROPPING   a ticket stays though its waiter is dead
 *   NO_LOCK       to look whose turn it is and to open the transaction are two steps
 */
#define WAITERS 3
#define PERSON 9
#define yes true
#define no false

byte ticket[WAITERS + 1];               /* the number of each waiter's ticket; 0: it has none */
byte next = 1;
byte open = 0;                          /* whose transaction is open */
bool dead[WAITERS + 1], begun[WAITERS + 1];
byte naps = 1, people = 1;

#define is_before(other, me)    (ticket[other] != 0 && ticket[other] < ticket[me])
#define oldest(me)              (ticket[me] != 0 && !is_before(1, me) && !is_before(2, me) && !is_before(3, me))
#define overtakes(other, me)    (is_before(other, me) && !dead[other])
#define in_order(me)            (!overtakes(1, me) && !overtakes(2, me) && !overtakes(3, me))
#ifdef NO_TICKETS
#define may_begin(me)           (open == 0)
#else
#define may_begin(me)           (open == 0 && oldest(me))
#endif

inline opens(me)
{
	assert(open == 0);
	assert(in_order(me));
	open = me; ticket[me] = 0; begun[me] = yes
}

proctype Waiter(byte me)
{
	bool turn = no;
	do
	:: atomic { !begun[me] && ticket[me] == 0 -> ticket[me] = next; next++ }
#ifdef NO_LOCK
	:: atomic { !begun[me] && !turn && may_begin(me) -> turn = yes }
	:: atomic { turn -> opens(me); break }
#else
	:: atomic { !begun[me] && may_begin(me) -> opens(me); break }
#endif
	:: atomic { ticket[me] != 0 && naps > 0 -> naps--; ticket[me] = 0; turn = no }  /* slept, and was dropped: comes again */
	:: atomic { me != 1 && ticket[me] != 0 -> dead[me] = yes; break }               /* the first one lives, and wants to begin */
	od
}

active proctype Host()
{
end:	do
	:: atomic { open != 0 -> open = 0 }                     /* proven, or gone back */
#ifndef NO_DROPPING
	:: atomic { dead[2] && ticket[2] != 0 -> ticket[2] = 0 }
	:: atomic { dead[3] && ticket[3] != 0 -> ticket[3] = 0 }
#endif
	od
}

active proctype Person()
{
end:	if
	:: atomic { open == 0 && people > 0 -> people--; open = PERSON }
	:: true
	fi
}

init
{
	atomic { run Waiter(1); run Waiter(2); run Waiter(3) };
	timeout;                                /* nothing can happen any more: whoever lives has begun */
	assert(open == 0);
	assert(begun[1]);
	assert(dead[2] || begun[2]);
	assert(dead[3] || begun[3])
}
