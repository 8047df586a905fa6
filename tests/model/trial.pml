/* One host's boot on trial (fleet-host, "a boot on trial"), for the model checker Spin. Nobody is there but a controller
 * that may fall silent after any step: what comes back comes back by itself.
 *
 * Systems are numbers: OLD is what the host runs and boots first, NEW is what the run brings. What NEW does when it boots is
 * drawn at the start. Time is not modelled: a deadline may pass at any moment. Any step of the keeper can be its last, and
 * the power can fail between any two. A machine that hangs is switched off and on by somebody who knows nothing else.
 *
 * What is one step here is one rename, one sync or one call of a tool there.
 *
 * Taken out with -D, to see that the checker notices:
 *   NO_OLDS_SCRIPT     NEW's own script writes the boot entries, and with them the default
 *   NO_ONCE            what boots NEW is not forgotten by the boot that it is for
 *   NO_WAKER_FIRST     the unit that wakes up is there last of all, and not first
 *   NO_MARK            the record does not say that the boot was meant
 *   NO_WAY_BACK        a NEW that was not proven in time is left running
 *   NO_VERIFYING       the boot loader's exit status is believed
 *   NO_SYNC            what restores the old boot default is not synced
 *   NO_LEADS_BACK      a NEW that cannot read what boots by default does not go back
 *   NO_SECOND_TRY      a keeper that dies on the way to the boot that leads back has had its one try
 *   NO_RECORD_FIRST    at the end the unit that wakes up goes before the record does
 */
#ifndef KILLS
#define KILLS 1         /* of the keeper */
#endif
#ifndef CUTS
#define CUTS 1          /* of the power */
#endif
#ifndef FAILURES
#define FAILURES 1      /* of a disk, of a boot loader */
#endif
#define OLD 0
#define NEW 1
#define yes true
#define no false

mtype = { arming, rebooting, switched, committing, committed, reverting, reverted, stuck };
mtype = { silence, confirm, abandon };
mtype = { good, ill, deaf, blind, panics, hangs };
/* NEW: a unit fails; nobody can log in; it sees no /boot and writes to no disk; resets itself; stands still */

/* --- the host's disk and firmware; what is not synced may be lost --- */
byte profile, profile_disk, boot, boot_disk;
bool once;                              /* the firmware boots the trial's entry, and forgets that */
bool entry, waker;                      /* the trial's entry; the unit that wakes up */
bool record, meant, commits, returning; /* the record, and its marks */

/* --- gone with the power --- */
byte running;
bool open, woken, alive, dies;          /* the keeper runs; its next step does not come */
bool leaving;                           /* `returning` is of this boot */
mtype state = arming, word = silence;

/* --- what only the properties know --- */
mtype nature;
bool up, proven, needs_human, tried;
byte kills = KILLS, cuts = CUTS, failures = FAILURES;

#define fails           failures > 0 -> failures--
#define boots_as_before (profile == OLD && boot == OLD)
#ifdef NO_SECOND_TRY
#define may_return      (!returning)
#else
#define may_return      (!returning || leaving)
#endif

inline lose_memory()
{
	if :: profile_disk = profile :: profile = profile_disk fi;
	if :: boot_disk = boot :: boot = boot_disk fi;
	open = no; woken = no; leaving = no; state = arming; word = silence; up = no; dies = alive
}

active proctype Faults()
{
end:	do
	:: atomic { kills > 0 && alive && !dies -> kills--; dies = yes }
	:: atomic { cuts > 0 && up -> cuts--; lose_memory() }
	:: true -> break
	od
}

/* --- firmware and boot loader: up to where systemd starts units --- */
active proctype Machine()
{
end:	do
	:: atomic { !up && nature != 0 ->
		assert(boot == OLD || proven);          /* the default never names what was not proven */
		if
		:: once && entry ->
#ifndef NO_ONCE
			once = no;
#endif
			assert(!tried);                 /* one boot, no loop */
			tried = yes;
			running = NEW
		:: else -> once = no; running = boot
		fi;
		if
		:: running == NEW && (nature == panics || nature == hangs) -> skip      /* reset: once more from the top */
		:: else -> up = yes
		fi }
	od
}

/* --- systemd starts the waker, if there is one --- */
active proctype Waker()
{
end:	do
	:: atomic { up && waker && !woken && !open -> woken = yes;
		if
		:: !record -> waker = no
		:: record && commits && running == NEW -> open = yes; state = committing
#ifndef NO_MARK
		:: record && !commits && meant && !returning && running == NEW -> open = yes; state = switched
		:: record && !(commits && running == NEW) && !(meant && !commits && !returning && running == NEW) -> open = yes; state = reverting
#else
		:: record && !(commits && running == NEW) && running == NEW -> woken = yes      /* it looks like any other boot */
		:: record && running == OLD -> open = yes; state = reverting
#endif
		fi }
	od
}

/* --- the keeper: each state acts and names the next --- */
active proctype Keeper()
{
	mtype next;
end:	do
	:: atomic { up && open -> alive = yes; next = reverting };
		{
		if
#ifndef NO_WAKER_FIRST
		:: atomic { state == arming -> waker = yes };
			atomic { record = yes };
#else
		:: atomic { state == arming -> record = yes };
#endif
			if
			:: atomic { profile = NEW }
			:: atomic { fails; goto leave }
			fi;
			atomic { profile_disk = profile };
#ifdef NO_OLDS_SCRIPT
			atomic { boot = NEW };
#endif
			if
			:: atomic { profile = OLD }
			:: atomic { fails; goto leave }
			fi;
			atomic { profile_disk = profile; boot_disk = boot };
			atomic { entry = yes };
			if
			:: atomic { word == abandon -> goto leave }
			:: atomic { true -> goto leave }                        /* late, or something disagrees */
			:: atomic { word != abandon -> meant = yes }
			fi;
			if
			:: atomic { once = yes }
			:: atomic { fails; goto leave }
			fi;
#ifdef NO_WAKER_FIRST
			atomic { waker = yes };
#endif
			atomic { next = rebooting };
			goto leave
		:: atomic { state == rebooting && word == abandon -> goto leave }
		:: atomic { state == rebooting && word != abandon -> profile_disk = profile; boot_disk = boot };
			if
			:: atomic { alive = no; lose_memory(); goto end }                   /* down, in good order */
			:: atomic { fails; goto leave }                         /* it does not go down */
			fi
		:: atomic { state == switched -> skip };
			if
			:: atomic { word == confirm -> next = committing }
			:: atomic { word == abandon || nature == ill || nature == blind -> skip }
#ifndef NO_WAY_BACK
			:: atomic { word != confirm -> skip }                   /* late */
#endif
			fi;
			goto leave
		:: atomic { state == committing -> commits = yes };
			atomic { assert(proven); profile = NEW };
			atomic { profile_disk = profile };
			if
			:: atomic { boot = NEW }
			:: atomic { fails }                                     /* exits 0, and has written nothing */
			fi;
			atomic { profile_disk = profile; boot_disk = boot };
			if
#ifndef NO_VERIFYING
			:: atomic { profile == NEW && boot == NEW -> next = committed }
			:: atomic { else }
#else
			:: atomic { next = committed }
#endif
			fi;
			goto leave
		:: atomic { state == reverting -> next = stuck; once = no };
			if
			:: atomic { running == NEW && nature == blind -> skip }
			:: atomic { running != NEW || nature != blind -> entry = no }
			fi;
#ifndef NO_LEADS_BACK
			if
			:: atomic { running == NEW && meant && !commits && may_return -> leaving = yes };
				if
				:: atomic { nature == blind }
				:: atomic { nature != blind -> returning = yes }
				fi;
				atomic { alive = no; lose_memory(); goto end }
			:: atomic { else }
			fi;
#endif
			if
			:: atomic { running == NEW && nature == blind -> goto leave }
			:: atomic { boots_as_before && !(running == NEW && nature == blind) }
			:: atomic { !boots_as_before && !(running == NEW && nature == blind) -> profile = OLD };
				if
				:: atomic { boot = OLD }
				:: atomic { fails }
				fi
			fi;
#ifndef NO_SYNC
			atomic { profile_disk = profile; boot_disk = boot };
#endif
			if
						:: atomic { running == NEW && boot == OLD && may_return -> returning = yes; leaving = yes };
				atomic { alive = no; lose_memory(); goto end }              /* the way back is a boot */
			:: atomic { running == OLD && boots_as_before -> next = reverted }
			:: atomic { else }
			fi;
			goto leave
		:: atomic { state == committed || state == reverted || state == stuck -> once = no };
			atomic { entry = no };
#ifdef NO_RECORD_FIRST
			atomic { waker = no };
			atomic { record = no; meant = no; commits = no; returning = no };
#else
			atomic { record = no; meant = no; commits = no; returning = no };
			atomic { waker = no };
#endif
			atomic { open = no; word = silence; alive = no; goto end }
		fi;
leave:		atomic {
			state = next;
			if
			:: next == committed -> assert(running == NEW && profile_disk == NEW && boot_disk == NEW)
			:: next == reverted -> assert(running == OLD && profile_disk == OLD && boot_disk == OLD)
			:: next == stuck -> assert(failures < FAILURES); needs_human = yes
			:: else
			fi
		}
		} unless { atomic { dies -> dies = no; alive = no } }
	od
}

/* --- a controller: begins, proves, leaves its word; or falls silent --- */
active proctype Controller()
{
	if
	:: atomic { up && !open -> open = yes; state = arming }
	fi;
	if
	:: atomic { up && open && (state == arming || state == switched) -> word = abandon }
	:: atomic { up && open && state == switched && running == NEW && nature == good -> proven = yes; word = confirm }
	:: true
	fi
}

init
{
	atomic { if :: nature = good :: nature = ill :: nature = deaf :: nature = blind :: nature = panics :: nature = hangs fi };
	timeout;                                /* nothing can happen any more: the promise */
	assert(up);
	assert(needs_human || (!open && !record && !once && !entry && !waker));
	assert(needs_human || (running == boot_disk && running == profile_disk));
	assert(running == OLD || proven || needs_human);
	assert(boot_disk == OLD || proven)
}
