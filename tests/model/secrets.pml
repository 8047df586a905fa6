/* The secrets of one run on one host: what is in their places, what is put aside, and who may die in between.
 *
 * There are two secrets: one on the disk and one in memory. A value is NOTHING, WAS (what was there at begin), or COMES
 * (what the run brings). A power cut takes all that is in memory. What is on the disk and was not synced may be lost: a
 * rename as a whole, and of two names that were made since the last sync either, since nothing orders them but a sync.
 *
 * The keeper may die at any step, and is started again. Where the power was cut it goes on from its record: it goes back, or
 * finishes a commit. The rest of a switch, with its own faults, is transaction.pml: here it ends either way, by chance.
 *
 * Taken out with -D, to see that the checker notices:
 *   NO_ASIDE        the new value is written over the old one
 *   NO_NONE         it is not noted that there was nothing
 *   NO_SYNC_ASIDE   the name aside is not synced before the new value comes
 *   NO_FIRST_ONLY   a keeper that is started again puts aside what is there then
 *   NO_RECORD       something is written before the run is on record
 *   NO_RESTORE      the way back leaves secrets alone
 *   NO_REFILL       nobody fills again what was in memory
 *   NO_TRUST        after a reboot, units that lack their secrets are held against the old system
 */
#ifndef KILLS
#define KILLS 1
#endif
#ifndef CUTS
#define CUTS 1
#endif
#ifndef FAILURES
#define FAILURES 1
#endif
#define NOTHING 0
#define WAS 1
#define COMES 2
#define yes true
#define no false

mtype = { switching, switched, committing, committed, reverting, reverted, stuck, settled };

/* --- on the disk, as the kernel shows it and as the disk has it --- */
byte place, place_disk, aside, aside_disk;
bool none, none_disk;                   /* the mark that there was nothing */
bool record, commits;                   /* the record of the run; its mark that the commit acts */
/* --- in memory --- */
byte memory, memory_aside;
bool memory_none, staged;
bool open, rebooted, alive, dies;
mtype state = switching;
/* --- what only the properties know --- */
byte before, memory_before;
bool ready, lost_power, needs_human;
byte kills = KILLS, cuts = CUTS, failures = FAILURES;

#define fails           failures > 0 -> failures--
#define put_aside       (aside != NOTHING || none)
#define memory_put_aside        (memory_aside != NOTHING || memory_none)
#define lacks           (memory_before != NOTHING && memory == NOTHING)

inline sync() { place_disk = place; aside_disk = aside; none_disk = none }

active proctype Faults()
{
end:	do
	:: atomic { kills > 0 && alive && !dies -> kills--; dies = yes }
	:: atomic { cuts > 0 && ready && state != settled -> cuts--; lost_power = yes;
		if
		:: place = place_disk; aside = aside_disk; none = none_disk
		:: sync()
		:: put_aside && aside_disk == NOTHING && !none_disk -> aside = NOTHING; none = no; sync()
		fi;
		memory = NOTHING; memory_aside = NOTHING; memory_none = no; staged = no;
		open = no; dies = alive; rebooted = yes;
		if :: record && commits -> state = committing :: record && !commits -> state = reverting :: !record -> state = settled fi;
		if :: record -> open = yes :: else fi }
	:: true -> break
	od
}

active proctype Keeper()
{
	mtype next;
end:	do
	:: atomic { dies -> dies = no; alive = no }
	:: atomic { open && !dies -> alive = yes; next = reverting };
		{
		if
		:: atomic { state == switching };
#ifndef NO_RECORD
			if :: atomic { record = yes } :: atomic { fails; goto leave } fi;
#endif
			/* the one on the disk */
			if
#ifndef NO_FIRST_ONLY
			:: atomic { put_aside || place == COMES }
			:: atomic { !put_aside && place != COMES ->
#else
			:: atomic { true ->
#endif
#ifndef NO_ASIDE
				if :: place != NOTHING -> aside = place
#ifndef NO_NONE
				:: place == NOTHING -> none = yes
#else
				:: place == NOTHING
#endif
				fi
#else
				skip
#endif
				}
			fi;
#ifndef NO_SYNC_ASIDE
			atomic { sync() };
#endif
			if :: atomic { staged -> place = COMES } :: atomic { !staged -> goto leave } :: atomic { fails; goto leave } fi;
			atomic { sync() };
			/* the one in memory */
			atomic { if :: memory_put_aside || memory == COMES
				:: else -> if :: memory != NOTHING -> memory_aside = memory :: memory == NOTHING -> memory_none = yes fi fi };
			if :: atomic { staged -> memory = COMES } :: atomic { !staged -> goto leave } fi;
#ifdef NO_RECORD
			atomic { record = yes };
#endif
			if :: atomic { next = switched } :: atomic { true } fi;         /* the activation ends well, or not */
			goto leave
		:: atomic { state == switched };
			if :: atomic { next = committing } :: atomic { true } fi;       /* the proof, or the deadline */
			goto leave
		:: atomic { state == committing -> commits = yes };
			if :: atomic { next = committed } :: atomic { !rebooted && fails } fi;
			goto leave
		:: atomic { state == reverting -> next = stuck; commits = no };
#ifndef NO_RESTORE
			if
			:: atomic { aside != NOTHING -> place = aside; aside = NOTHING }
			:: atomic { aside == NOTHING && none -> place = NOTHING }
			:: atomic { !put_aside }
			:: atomic { fails; goto leave }
			fi;
			atomic { sync() };
			atomic { none = no };
			atomic { sync() };
			if
			:: atomic { memory_aside != NOTHING -> memory = memory_aside; memory_aside = NOTHING }
			:: atomic { memory_aside == NOTHING && memory_none -> memory = NOTHING; memory_none = no }
			:: atomic { !memory_put_aside }
			fi;
#endif
			/* the proof of the old system */
			if
#ifndef NO_TRUST
			:: atomic { !put_aside && !memory_put_aside -> next = reverted }
#else
			:: atomic { !put_aside && !memory_put_aside && !lacks -> next = reverted }
#endif
			:: atomic { else }
			fi;
			goto leave
		:: atomic { state == committed || state == reverted || state == stuck };
			if
			:: atomic { state != stuck -> aside = NOTHING; memory_aside = NOTHING; memory_none = no };
				atomic { none = no };
				atomic { sync() }
			:: atomic { state == stuck }
			fi;
			atomic { staged = no };
			atomic { record = no };
			atomic { open = no; alive = no;
				if
				:: state == committed -> assert(place_disk == COMES && (memory == COMES || lost_power))
				:: state == reverted -> assert(place_disk == before && aside_disk == NOTHING && !none_disk);
					assert(memory == memory_before || lost_power)
				:: else
				fi;
				state = settled; goto end }
		fi;
leave:		atomic { state = next; if :: next == stuck -> needs_human = yes; assert(failures < FAILURES) :: else fi; next = reverting }
		} unless { atomic { dies -> dies = no; alive = no } }
	od
}

/* The controller, or `deliver --watch`: fills what a reboot took, once nothing is open. */
active proctype Filler()
{
end:	do
#ifndef NO_REFILL
	:: atomic { state == settled && !open && lost_power && memory == NOTHING && memory_before != NOTHING -> memory = COMES }
#else
	:: false
#endif
	od
}

init
{
	atomic {
		if :: before = WAS :: before = NOTHING fi;
		if :: memory_before = WAS :: memory_before = NOTHING fi;
		place = before; place_disk = before; memory = memory_before;
		staged = yes; open = yes; ready = yes
	};
	timeout;                                /* nothing can happen any more: the promise */
	assert(state == settled && !open && !record && !staged);
	assert(needs_human || (!put_aside && !memory_put_aside && aside_disk == NOTHING && !none_disk));
	assert(needs_human || place_disk == before || place_disk == COMES);
	assert(needs_human || memory != NOTHING || memory_before == NOTHING)    /* in the end nothing lacks */
}
