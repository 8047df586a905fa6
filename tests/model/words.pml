/* What the keeper makes of a word, or of its deadline, in each state of its own run; shared by the model and by
 * tests/containers/test_transaction_table.py, which drives the real host program through the same rows.
 *
 * WORD(state, word, taken, next): whether it is taken, and the state that it leads to. A word that is not taken
 * changes nothing. A word with another run's id is never taken, in no state.
 */
WORD(switching,  confirm, no,  switching)
WORD(switching,  abandon, yes, reverting)
WORD(switching,  late,    yes, reverting)
WORD(switched,   confirm, yes, committing)
WORD(switched,   abandon, yes, reverting)
WORD(switched,   late,    yes, reverting)
WORD(committing, confirm, no,  committing)
WORD(committing, abandon, no,  committing)
WORD(committing, late,    no,  committing)
WORD(reverting,  confirm, no,  reverting)
WORD(reverting,  abandon, no,  reverting)
WORD(reverting,  late,    no,  reverting)
WORD(committed,  confirm, no,  committed)
WORD(committed,  abandon, no,  committed)
WORD(tested,     confirm, no,  tested)
WORD(tested,     abandon, no,  tested)
WORD(reverted,   confirm, no,  reverted)
WORD(reverted,   abandon, no,  reverted)
WORD(superseded, confirm, no,  superseded)
WORD(superseded, abandon, no,  superseded)
WORD(stuck,      confirm, no,  stuck)
WORD(stuck,      abandon, no,  stuck)
