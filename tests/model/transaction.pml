/* One host's switch as a transaction (design.md 5), for the model checker Spin.
 *
 * Systems are numbers: 0 is what the host ran first, N is what run N brings, PERSONS is what a person puts there, who
 * may also be faster than run N and bring N; or set the profile there and back.
 * Time is not modelled: a deadline may pass at any moment, a proof may end either way, and a controller may fall silent
 * after any step (killed, asleep or cut off: the host cannot tell them apart). Any step of the keeper can be its last.
 * Faults are bounded in number, so every behaviour ends, and "eventually" is what holds where nothing can happen any more.
 *
 * What is one step here is one rename, one sync or one call of a tool there, together with the look right before it that
 * nobody else has changed the host: a person who switches in between has to win the race against milliseconds.
 *
 * Taken out with -D, to see that the checker notices:
 *   NO_SINGLE_WRITER   a controller writes the state itself instead of leaving a word
 *   NO_RUN_ID          a word carries no run id
 *   NO_RESTART         a keeper that died is not started again
 *   NO_SETTLING        a run begins without settling what a reboot left open
 *   NO_RECHECK         the keeper acts on what was read before its transaction was renamed into place
 *   NO_REREAD          a reopened transaction takes back only the activation that it remembers
 *   NO_STARTED         what a person brings before the switch has started is taken for ours, if it is what we bring
 *   NO_VERIFYING       the boot loader's exit status is believed
 *   NO_SYNC            a revert is not synced
 *   NO_SERIAL          a run begins whatever transaction there has been since it was planned
 *   NO_LINK            a run begins whatever a person has done to the profile since it was planned
 *   NO_OWN_LINK        a run begins again whatever a person has done to the profile, if its own commit had set it
 *   NO_SERIAL_ON_DISK  the serial is written when the transaction ends, not before anything acts
 *   NO_OPENING_LOCK    two controllers look at once whether their runs can begin
 *   NO_WAYS_IN         the way back is proven by what runs alone, and not by what a login needs
 *   NO_NEW_LOGIN       a controller tells of a way back over the connection that stands
 */
#ifndef KILLS
#define KILLS 1         /* of the keeper */
#endif
#ifndef CUTS
#define CUTS 1          /* of the power */
#endif
#ifndef FAILURES
#define FAILURES 1      /* of a disk, of the boot loader, of the old system's own switch, of the switch unit */
#endif
#ifndef AGAIN
#define AGAIN 0         /* how often a controller begins again what went back because nobody was there */
#endif
#define PERSONS 3
#define NONE 0
#define yes true
#define no false

mtype = { switching, switched, committing, committed, tested, reverting, reverted, stuck, superseded };
mtype = { silence, confirm, abandon, late };
mtype = { idle, pending, well, ill };

/* --- the host --- */
byte running;                           /* /run/current-system */
byte profile, profile_disk;             /* as the kernel shows it, and as the disk has it */
byte boot, boot_disk;                   /* the boot default, likewise */
byte record = NONE;                     /* /nix/var/fleet/open: the run; a rename between two syncs is one step */
bool record_commits;                    /* its state: committing, or switching */
bool link;                              /* the profile's link: another whenever a person sets it, there and back too */
byte newest = NONE, newest_disk = NONE, record_serial = NONE;    /* the newest serial, as the host tells and as the disk has it.
					 * Half of it is drawn by chance: none comes twice */
bool opening;                           /* somebody has the lock for opening one */
bool shut, deaf;                        /* nobody can log in: for what the host can see, such as its keys, or cannot */

/* --- /run/fleet/open, and the services of the host --- */
byte open = NONE;                       /* the run */
mtype state = switching, word = silence, activation = idle;
byte word_run = NONE;
bool started, rebooted;
byte old[3], old_profile[3], old_boot[3];       /* read before the transaction is renamed into place */
bool blame_silent, kept;                    /* the newest that ended went back because nobody was there; the disk has that too */
bool own_link, links;                   /* the link as it left it, where it had set the profile itself */
bool unit, alive, dies;                 /* the keeper: PID 1 holds its unit; it runs; its next step does not come */

/* --- what only the properties know --- */
bool proven[3];                         /* its controller saw it healthy, and left `confirm` for it */
bool goes_back, is_open[3], opened, needs_human;
byte brought = NONE;                    /* the run whose system a person brought before its switch had started */
bool planned[3], outdated[3];           /* the run may begin; and something has happened since it was planned */
#define happened(run)   outdated[run] = planned[run]
byte kills = KILLS, cuts = CUTS, failures = FAILURES, people = 1;

#define is_good(system)         (system == 0 || system == PERSONS || proven[system] || system == brought)
#define somebody_else_came      (people == 0)
#define boots_as_before         (profile == old_profile[it] && boot == old_boot[it])
#ifdef NO_STARTED
#define touched                 true
#else
#define touched                 (started || (record == it && record_commits))
#endif
#define accounted(system, was)  (system == was || (touched && system == it) || (rebooted && system == old_boot[it]))
#define ours                    (accounted(running, old[it]) && accounted(profile, old_profile[it]))
#ifdef NO_REREAD
#define REREAD true
#else
#define REREAD false
#endif
#define fails                   failures > 0 -> failures--
#ifdef NO_WAYS_IN
#define ways_in                 true
#else
#define ways_in                 !shut
#endif
#ifdef NO_RUN_ID
#define of_this_run(run)        true
#else
#define of_this_run(run)        (run == it)
#endif

/* --- faults --- */
inline power_cut()
{
	cuts--;
	if :: profile_disk = profile :: profile = profile_disk fi;      /* what was not synced may survive or not */
	if :: boot_disk = boot :: boot = boot_disk fi;
	assert(is_good(boot));
	if :: open != NONE && record != open -> is_open[open] = false :: else fi;       /* it had done nothing yet */
	running = boot;
	open = NONE; state = switching; word = silence; word_run = NONE; started = false; rebooted = false;
	activation = idle; unit = false; dies = alive; goes_back = false;
	newest = (record != NONE -> record_serial : newest_disk);
	blame_silent = blame_silent && kept; opening = false
}

active proctype Faults()
{
end:	do
	:: atomic { kills > 0 && alive && !dies -> kills--; dies = true;
		if :: true :: unit = false fi }         /* PID 1 starts it again; or lost it, and the next contact does */
	:: atomic { cuts > 0 -> power_cut() }
	:: atomic { people > 0 && activation != pending -> people--;      /* the switch lock is theirs */
		running = PERSONS; profile = PERSONS; profile_disk = PERSONS; boot = PERSONS; boot_disk = PERSONS; link = !link;
		happened(1); happened(2) }
	:: atomic { people > 0 && !opening -> people--; link = !link;   /* there and back: not within an opening's milliseconds, */
		if :: open != 1 && record != 1 -> happened(1) :: else fi;       /* and a run that is open goes on all the same */
		if :: open != 2 && record != 2 -> happened(2) :: else fi }
	:: atomic { people > 0 && open != NONE && state == switching && !started -> people--; brought = open;
		running = open; profile = open; profile_disk = open; boot = open; boot_disk = open; link = !link;
		happened(1); happened(2) }
	:: true -> break                                /* no more of them */
	od
}

/* --- NEW's switch-to-configuration, in a unit of its own. It may hang, and be killed. --- */
active proctype Switch()
{
end:	do
	:: atomic { activation == pending && running != open -> running = open }
	:: atomic { activation == pending && running == open -> activation = well }
	:: atomic { activation == pending -> activation = ill }
	:: atomic { activation == pending && fails; activation = idle }
	:: atomic { activation == pending && fails; activation = ill; if :: shut = yes :: deaf = yes fi }
	od
}

/* --- any contact: reopens what a reboot left open, and starts a keeper that died --- */
inline contact()
{
	if
	:: open == NONE && record != NONE -> open = record; unit = true; rebooted = true;
		if
		:: record_commits && running == record -> state = committing
		:: else -> state = reverting
		fi
	:: else
	fi;
#ifndef NO_RESTART
	if :: open != NONE -> unit = true :: else fi
#endif
}

active proctype Contact()
{
end:	do
	:: atomic { open == NONE && record != NONE -> contact() }
#ifndef NO_RESTART
	:: atomic { open != NONE && !unit -> contact() }
#endif
	od
}

/* --- the keeper: each state acts and names the next --- */
inline act_of_commit()
{
	assert(proven[it]);                     /* never without a confirm of this run */
	assert(!goes_back)                      /* never after reverting began */
}

active proctype Keeper()
{
	byte it;
	mtype next;
end:	do
	:: atomic { unit && open != NONE -> alive = true; it = open };
		{
		do
		:: atomic { state == switching -> next = reverting };
			if
			:: atomic { happened(3 - it);
				record = it; record_commits = false; record_serial = newest;
#ifndef NO_SERIAL_ON_DISK
				newest_disk = newest
#endif
				}
			:: atomic { fails; goto leave }
			fi;
			if
			:: atomic { !started -> goto leave }                    /* late, or abandoned */
#ifndef NO_RECHECK
			:: atomic { !started && !ours -> next = superseded; goto leave }
			:: atomic { !started && ours -> started = true };
#else
			:: atomic { !started -> started = true };
#endif
				if
				:: atomic { !ours -> next = superseded; goto leave }
				:: atomic { ours -> activation = pending }
				fi
			:: atomic { started }
			fi;
			if
			:: atomic { activation == well -> next = switched }
			:: atomic { true }                                      /* ill, killed, late or abandoned */
			fi;
			goto leave
		:: atomic { state == switched -> next = reverting };
			if
			:: atomic { word == confirm && of_this_run(word_run) -> next = committing }
			:: atomic { true }                                      /* late, or abandoned */
			fi;
			goto leave
		:: atomic { state == committing -> next = reverting };
			if
			:: atomic { !ours -> next = superseded; goto leave }
			:: atomic { ours -> record_commits = true }
			:: atomic { ours && fails; goto leave }
			fi;
			if
			:: atomic { !ours -> next = superseded; goto leave }
			:: atomic { ours -> act_of_commit(); profile = it }
			:: atomic { ours && fails; goto leave }
			fi;
			atomic { profile_disk = profile };
			if
			:: atomic { !ours -> next = superseded; goto leave }
			:: atomic { ours -> act_of_commit(); boot = it }
			:: atomic { ours && fails }                             /* exits 0, and has written nothing */
			:: atomic { ours && fails; goto leave }
			:: atomic { ours && fails; boot = it; goto leave }      /* has written, and fails */
			fi;
			atomic { profile_disk = profile; boot_disk = boot };
			if
#ifndef NO_VERIFYING
			:: atomic { running == it && profile == it && boot == it -> next = committed }
			:: atomic { else }
#else
			:: atomic { next = committed }
#endif
			fi;
			goto leave
		:: atomic { state == reverting -> next = stuck; goes_back = true };
			atomic { activation = idle };                           /* our own unit, whoever came */
			if
			:: atomic { boots_as_before }
			:: atomic { !ours -> next = superseded; goto leave }
			:: atomic { ours && !boots_as_before -> profile = old_profile[it] };
				if
				:: atomic { !ours -> next = superseded; goto leave }
				:: atomic { ours -> boot = old_boot[it] }
				:: atomic { ours && fails }
				fi
			fi;
#ifndef NO_SYNC
			atomic { profile_disk = profile; boot_disk = boot };    /* of this keeper, or one that died before it */
#endif
			if
#ifdef NO_REREAD
			:: atomic { !started }
#endif
			:: atomic { !ours -> next = superseded; goto leave }
			:: atomic { ours -> running = old[it] }                 /* by its own means, or by hand */
			:: atomic { ours && fails; goto leave }
			fi;
			if
			:: atomic { !ours -> next = superseded }
			:: atomic { ours && boots_as_before && (running == old[it] || REREAD) && ways_in -> next = reverted }
			:: atomic { ours && !(boots_as_before && running == old[it] && ways_in) }
			fi;
leave:			atomic {
				blame_silent = no;
				state = next; word = (state == switching || state == switched -> word : silence);
				if
				:: next == committed -> assert(somebody_else_came ||
					(running == it && profile_disk == it && boot_disk == it))
				:: next == reverted -> assert(!shut); if :: AGAIN > 0 -> blame_silent = yes :: true fi; assert(brought != it); assert(somebody_else_came ||
					(running == old[it] && profile_disk == old_profile[it] && boot_disk == old_boot[it]))
				:: next == superseded -> assert(somebody_else_came || !started)
				:: next == stuck -> assert(failures < FAILURES); needs_human = true
				:: else
				fi;
				next = switching
			}
		:: atomic { state == committed || state == reverted || state == stuck || state == superseded -> break }
		od;
		atomic { if :: AGAIN > 0 -> own_link = link; links = record_commits :: else fi;
			if :: kept = true; newest_disk = newest :: fails; kept = (AGAIN == 0) fi;   /* a full disk */
			record = NONE; record_commits = false; record_serial = NONE; is_open[it] = false };
		atomic { open = NONE; word = silence; word_run = NONE; state = switching; started = false; rebooted = false; activation = idle;
			unit = false; alive = false; goes_back = false; old[it] = 0; old_profile[it] = 0; old_boot[it] = 0;
			it = NONE; goto end }
		} unless { dies };
		atomic { dies = false; alive = false; it = NONE; next = switching;
#ifdef NO_RESTART
			unit = false
#endif
		}
	od
}

/* --- a controller: plans, begins, follows, proves, leaves its word. `me` is its run, and the part that it was planned with:
 * where the host went back because nobody was there, it may begin once more. --- */
#define is_current      (running == planned_running && newest_matches && link_matches)
#define may_begin_again (newest == me && blame_silent && running == planned_running && own_link_matches)
#ifdef NO_SERIAL
#define newest_matches  true
#else
#define newest_matches  (newest == planned_newest)
#endif
#ifdef NO_LINK
#define link_matches    true
#else
#define link_matches    (link == planned_link)
#endif
#ifdef NO_OWN_LINK
#define own_link_matches        (links || link == planned_link)
#else
#define own_link_matches        (link == (links -> own_link : planned_link))
#endif
#ifdef NO_OPENING_LOCK
#define locked          false
#else
#define locked          opening
#endif

inline takes(what, answer)
{
	if
#define WORD(s, w, taken, after) :: state == s && what == w -> answer = taken
#include "words.pml"
	:: else -> answer = no
	fi
}

proctype Controller(byte me)
{
	byte power, planned_running, planned_newest;
	byte again;
	bool planned_link, taken;
	mtype verdict = silence;
	atomic { open == NONE ->                /* any time before it begins, where no other run is under way */
		planned_running = running; planned_newest = newest; planned_link = link; planned[me] = yes
	};
begin:	if :: true -> goto silent :: true fi;
	atomic {                                /* on the host: sees that nothing has happened, reads what a revert needs … */
#ifndef NO_SETTLING
		contact();
#endif
		if :: open != NONE || locked || shut || deaf || (me == 2 && !opened) -> goto silent :: else fi; /* who opens first is run 1 */
		if :: is_current || may_begin_again :: else -> goto silent fi;
		assert(!outdated[me]);
		power = cuts; opening = true; proven[me] = false;
		old[me] = running; old_profile[me] = profile; old_boot[me] = boot
	};
	atomic {                                /* … and renames the transaction into place, unless one is there */
		if :: power != cuts || open != NONE -> old[me] = 0; old_profile[me] = 0; old_boot[me] = 0; goto silent :: else fi;
		assert(!is_open[1] && !is_open[2]);
		assert(!outdated[me] || somebody_else_came);
		opening = false;
		open = me; newest = me + 2 * again; is_open[me] = true; opened = true; state = switching; unit = true;
		if :: again == AGAIN -> planned_running = 0; planned_newest = NONE; planned_link = no; planned[me] = no :: else fi
	};
	if
	:: true -> goto silent
	:: atomic { open == me && (state == switching || state == switched) -> verdict = abandon }     /* or Ctrl-C */
	:: atomic { open == me && state == switched && running == me && !shut && !deaf -> verdict = confirm; proven[me] = true }
	:: atomic { open != me -> goto silent }
	fi;
	atomic {                                /* on the host, whenever the word arrives: a look … */
		power = cuts;
		takes(verdict, taken);
#ifndef NO_RUN_ID
		if :: open != me -> taken = no :: else fi;
#endif
		if :: open == NONE || !taken -> goto silent :: else fi
	};
	atomic {                                /* … and a rename, into the transaction that is open by then */
		if
		:: power == cuts && open != NONE ->
			word = verdict; word_run = me;
#ifdef NO_SINGLE_WRITER
			if :: verdict == confirm -> state = committing :: else -> state = reverting fi
#endif
		:: else
		fi
	};
silent:	if
	:: atomic { verdict == abandon && open == NONE && newest == me + 2 * again && (deaf || shut) && !needs_human ->
#ifndef NO_NEW_LOGIN
		needs_human = yes;
#endif
		assert(needs_human); goto silent }      /* nobody is told that all is well */
	:: atomic { again < AGAIN && open == NONE && newest == me && blame_silent -> again++; verdict = silence; goto begin }
	:: atomic { true -> power = 0; verdict = silence; taken = no; again = 0; planned_running = 0; planned_newest = NONE;
		planned_link = no; planned[me] = no; outdated[me] = no }
	fi
}

init
{
	atomic { run Controller(1); run Controller(2) };
	timeout;                                /* nothing can happen any more: the promise */
	assert(open == NONE && record == NONE);
	assert(!is_open[1] && !is_open[2]);
	assert(is_good(boot) && is_good(boot_disk));
	assert(is_good(running) || needs_human)
}
