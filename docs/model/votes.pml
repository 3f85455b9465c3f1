/* SPDX-License-Identifier: Apache-2.0
 *
 * Voter changes: who may open, and which configurations can be committed.  Only votes: no data, no in-sync set.
 *
 * Openers have the epochs 1 .. EPOCHS and can stop between any two messages.  Each message is a step of its own; its answer may be
 * lost.  A voter holds what it promised and the last configuration that it accepted (epoch, generation, list of voters as bits).
 * Voters outside of the first list are blank: they may be fenced and counted, and contribute no configuration.
 *
 * With SERIAL an opener begins when the one before it has stopped.  Nothing is lost by that, as long as voters keep promises: at each voter all
 * messages of an epoch come before those of the next (the others are refused), and what an opener does depends on the answers to its own messages
 * only.  So each run has the same answers and the same end as the one in which the epochs come one after the other.  Without SERIAL the
 * openers run at once, which is the check of that argument, for few epochs.
 *
 * Two assertions, which together say that the committed configurations form a chain:
 *  - an opener chooses nothing older than what an older epoch has committed;
 *  - nothing is committed that is newer than what an opener of a higher epoch has chosen before.
 *
 * -DBUG=name takes a rule away:
 */
#define none      0
#define swap      10 /* B10: one step replaces a voter */
#define at_once   1  /* the first configuration of an opener already changes the voters; not a bug by itself */
#define first_list 3 /* an opener wants a majority of the first list, not of the list in the configuration that it found */
#define same_id   4  /* a voter that lost its state comes back under its old id */
#define old_only  5  /* a majority of the old list commits; not a bug by itself */
#define new_only  6  /* a majority of the new list commits; not a bug by itself */
#define raft      7  /* at_once and new_only together: the published bug of one-by-one changes in Raft */

#ifndef BUG
#define BUG none
#endif
#ifndef VOTERS
#define VOTERS 4
#endif
#ifndef EPOCHS
#define EPOCHS 3
#endif
#ifndef GENS
#define GENS 2
#endif

#define BIT(i) (1 << (i))
#define COUNT(m) (((m) & 1) + (((m) >> 1) & 1) + (((m) >> 2) & 1) + (((m) >> 3) & 1) + (((m) >> 4) & 1))
#define MAJORITY(list, who) (2 * COUNT((list) & (who)) > COUNT(list))
#define KEY(epoch, gen) ((epoch) * 4 + (gen)) /* orders configurations; 0: none */
#define FIRST_LIST 7
#define FIRST_KEY 1

byte promised[VOTERS];
byte key[VOTERS];
byte list[VOTERS];
#ifdef SERIAL
byte turn = 1;
#endif

byte committed = FIRST_KEY; /* ghost: the highest one of each epoch would do; they rise, so the highest of all */
byte chosen[EPOCHS + 1];    /* ghost: what the opener of an epoch chose; 0: nothing yet */

inline commit() {
	/* A newer opener has chosen without knowing of this one: two histories. */
	e = epoch + 1;
	do
	:: e <= EPOCHS -> assert(chosen[e] == 0 || chosen[e] >= KEY(epoch, gen)); e++
	:: else -> break
	od;
	e = 0;
	if
	:: committed < KEY(epoch, gen) -> committed = KEY(epoch, gen)
	:: else
	fi
}

/* One voter added or removed. */
inline change() {
	i = 0;
	do
	:: i < VOTERS - 1 -> i++
	:: break
	od;
	if
	:: BUG != swap && (voters & BIT(i)) == 0 -> voters = voters | BIT(i)
	:: BUG != swap && (voters & BIT(i)) != 0 && COUNT(voters) > 2 -> voters = voters & ~BIT(i)
	:: BUG == swap && (voters & BIT(i)) == 0 ->
		e = 0;
		do
		:: e < VOTERS - 1 -> e++
		:: (voters & BIT(e)) != 0 -> voters = (voters & ~BIT(e)) | BIT(i); break
		od;
		e = 0
	:: else
	fi;
	i = 0
}

/* With SERIAL one round of messages to any set of voters is as good as many, no answer needs to be lost (a smaller set is the same), and promises need
 * not be looked at: all older epochs have stopped. */
#ifdef SERIAL
#define LOST false
#define ONCE tried
#define ONCE_DONE tried = true
#define PROMISE(i)
#else
#define LOST true /* the answer may be lost */
#define ONCE false
#define ONCE_DONE skip
#define PROMISE(i) promised[i] = epoch
#endif

inline fence() {
	if
	:: promised[i] < epoch ->
		PROMISE(i);
		if
		:: printf("epoch %d fences %d\n", epoch, i);
		   fenced = fenced | BIT(i);
		   if
		   :: key[i] > best -> best = key[i]; voters = list[i]
		   :: else
		   fi
		:: LOST
		fi
	:: else
	fi
}

/* A voter that was not there at first is fenced at the same time.  The same configuration again is good. */
inline accept() {
	if
	:: ((voters | before) & BIT(i)) != 0 && (accepted & BIT(i)) == 0 && promised[i] <= epoch && key[i] <= KEY(epoch, gen) ->
		PROMISE(i);
		printf("epoch %d gen %d, voters %d: accepted by %d\n", epoch, gen, voters, i);
		key[i] = KEY(epoch, gen);
		list[i] = voters;
		if
		:: accepted = accepted | BIT(i)
		:: LOST
		fi
	:: else
	fi
}

/* What messages go to until the next thing happens: one voter, or with SERIAL any set of voters. */
#ifdef SERIAL
#define SOME(message) \
	i = 0; \
	do \
	:: i < VOTERS -> \
		if \
		:: message \
		:: true \
		fi; \
		i++ \
	:: else -> break \
	od; \
	i = 0
#else
#define SOME(message) \
	i = 0; \
	do \
	:: i < VOTERS - 1 -> i++ \
	:: break \
	od; \
	message; \
	i = 0
#endif

proctype Opener(byte epoch) {
	byte gen, voters, before, fenced, accepted, best, i, e;
	bool tried;

#ifdef SERIAL
	turn == epoch;
#endif
	do
	:: atomic { !ONCE -> SOME(fence()); ONCE_DONE }
	:: atomic {
		best != 0 && MAJORITY((BUG == first_list -> FIRST_LIST : voters), fenced) ->
		printf("epoch %d chooses voters %d of epoch %d gen %d\n", epoch, voters, best / 4, best % 4);
		assert(best >= committed || committed >= KEY(epoch, 0));
#ifndef SERIAL
		chosen[epoch] = best;
#endif
		break
	   }
	:: goto stopped
	od;
	atomic {
		best = 0;
		tried = false;
		gen = 1;
		before = voters;
		if
		:: BUG == at_once || BUG == raft -> change()
		:: else
		fi
	};
	do
	:: goto stopped
	:: atomic {
		!ONCE ->
		SOME(accept());
		ONCE_DONE;
		if
		:: (BUG == new_only || BUG == raft || MAJORITY(before, accepted)) && (BUG == old_only || MAJORITY(voters, accepted)) ->
			printf("committed\n");
			commit();
			accepted = 0;
			tried = false;
			before = voters;
			if
			:: gen < GENS -> gen++; change()
			:: else -> goto stopped
			fi
		:: else
		fi
	   }
	od;
stopped:
	atomic {
		gen = 0; voters = 0; before = 0; fenced = 0; accepted = 0; best = 0; i = 0; tried = false;
#ifdef SERIAL
		turn++
#endif
	}
}

init {
	atomic {
		key[0] = FIRST_KEY; list[0] = FIRST_LIST;
		key[1] = FIRST_KEY; list[1] = FIRST_LIST;
		key[2] = FIRST_KEY; list[2] = FIRST_LIST;
		run Opener(1);
		run Opener(2);
#if EPOCHS > 2
		run Opener(3);
#endif
#if EPOCHS > 3
		run Opener(4);
#endif
	};
#if BUG == same_id
	atomic { promised[0] = 0; key[0] = 0; list[0] = 0 }
#endif
}
