/* Who proves a switched host, for the model checker Spin: a run that one controller has begun and another takes up, while the
 * first is not dead but asleep.
 *
 * The system is well, and may fall ill for good at any moment. Time is modelled by one thing alone: more than ten seconds pass
 * (`Time`), at any moment. A controller may fall asleep between any two of its steps, since any other process may go on there.
 * Only the host knows who has attached last; nobody tells the one before. A deadline may pass at any moment.
 *
 * Taken out with -D, to see that the checker notices:
 *   NO_NUMBER   looks and words count whoever sends them
 *   NO_PAUSE    a word counts however long ago the host was looked at
 */
#define PROVERS 3       /* controllers: the first has begun the run */
#define LOOKS 2
#define yes true
#define no false

mtype = { switched, committing, reverting };

/* --- the host --- */
mtype state = switched;
byte number = 1;                        /* of whoever has attached last */
bool seen_lately = no;                  /* a look of that one was within ten seconds */

/* --- what only the properties know --- */
bool well = yes, well_lately = yes;     /* now, and at some moment of the last ten seconds */
bool proves[PROVERS + 1];               /* a controller has found the system well, and was not displaced since */
byte latest = 1;
byte pauses = 2;

#ifdef NO_NUMBER
#define displaced   false
#else
#define displaced   (mine < number)
#endif
#ifdef NO_PAUSE
#define too_late        false
#else
#define too_late        !seen_lately
#endif

active proctype System()
{
end:	if
	:: atomic { well -> well = no }
	:: true
	fi
}

active proctype Time()
{
end:	do
	:: atomic { pauses > 0 -> pauses--; seen_lately = no; well_lately = well }
	:: true -> break
	od
}

active proctype Deadline()
{
end:	if
	:: atomic { state == switched -> state = reverting }
	:: true
	fi
}

proctype Controller(byte me)
{
	byte looks = LOOKS, mine = 1;
	bool found_well = no;
	atomic {                                                /* takes the run up, unless it has begun it */
		if
		:: me > 1 && state == switched -> number++; mine = number; latest = me
		:: else
		fi
	};
	do
	:: atomic { looks > 0 && state == switched ->           /* a look */
		looks--;
		if
		:: displaced -> break
		:: else -> seen_lately = yes; found_well = well; if :: well -> well_lately = yes :: else fi;
			proves[me] = found_well
		fi }
	:: atomic { found_well && state == switched ->          /* confirm */
		if
		:: displaced -> break
		:: !displaced && too_late -> found_well = no; proves[me] = no
		:: else -> assert(well_lately);
			assert(me == latest);
			state = committing; break
		fi }
	:: atomic { state == switched ->                        /* abandon: it saw something bad, or its link was lost */
		if
		:: displaced -> break
		:: else -> assert(me == latest || !proves[latest]); /* nobody condemns what another has proven */
			state = reverting; break
		fi }
	:: true -> break                                        /* dead */
	od
}

init
{
	atomic { run Controller(1); run Controller(2); run Controller(PROVERS) };
	timeout
}
