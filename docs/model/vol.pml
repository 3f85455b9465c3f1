/* SPDX-License-Identifier: Apache-2.0
 *
 * Open, write, degrade, rejoin: one block on three voters, up to two nexus processes (the second may be a zombie, or another opener).  Faults at each
 * message: the request is lost, its answer is lost, the nexus dies between any two steps; one delayed write lands at any later time or is refused.
 * A flag for the block stands for "written since it was last known to be equal" (al); dirty says which replicas outside of S lack what.
 * Ghost: poss is the set of values that a read may return (a bit for each); a lost write, a value that comes back and a read that flips all trip over it.
 *
 * Deliberate bugs, each of which brings one rule of an obvious protocol back:
 *  B1  an opener ranks replicas by (promised epoch, gen) instead of (epoch, gen) of the configuration
 *  B2  an opener serves without committing the configuration under its own epoch
 *  B3  an opener does not make the block equal before it serves reads from any member
 *  B4  a rejoin copies only what the survivors noted and ignores what the returning replica had begun
 *  B5  no sessions: a delayed write of an older connection of the same epoch is executed
 *  B6  two of three acknowledge while the third stays in S
 *  B7a a record in the Kubernetes object names the set; an opener takes a majority or that set
 *  B7b that record comes first, and is taken back lazily
 *  B8  a rejoined replica does not learn what the other absent replicas lack
 *  B9  the flag is cleared before all of S have the write
 * Others: K8S the record of B7b, taken back before anything contradicts it;  ONE one nexus process;  NODELAY no delayed write;
 *  LEAN no lost answers, flags are not cleared.
 */
#ifndef MAXE
#define MAXE 3
#endif
#ifndef MAXW
#define MAXW 3
#endif
#ifndef MAXG
#define MAXG 3
#endif
#ifndef MAXS
#define MAXS 2
#endif
#define BIT(i) (1<<(i))
#define CNT(m) (((m)&1)+(((m)>>1)&1)+(((m)>>2)&1))
#define TOK(e,s) ((e)*4+(s))

byte k_epoch = 0; bool k_has = false; byte k_S = 0;       /* Kubernetes object              */
byte tok[3];                                              /* promised (epoch,session)       */
byte ce[3]; byte cg[3]; byte cS[3];                       /* accepted configuration         */
byte data[3]; bool al[3]; byte dirty[3];                  /* block, activity log, bitmap    */
byte dlt = 0; byte dlv = 0; byte dlm = 0; byte dli = 0;   /* one delayed write in the network */
byte poss = 1;  /* ghost: set of values a read may return (bit v) */
byte nw = 0;    /* last issued value            */
byte act_e = 0; /* highest epoch that served    */

#define AP_CFG(i) \
   if :: al[i] -> dirty[i] = dirty[i] | (cS[i] & ~S) :: else fi; \
   dirty[i] = dirty[i] & ~S; ce[i]=e; cg[i]=g; cS[i]=S

#define COMMITTED done=true; if :: w!=0 -> poss=BIT(w); w=0 :: else fi

/* propose configuration (e,g,S) at every voter we have a session with, repeat with a smaller set
 * until every member and a majority of voters (or the API) hold it; the write w that waited for it
 * is acknowledged at that moment (ghost poss) */
inline settle() {
  done=false;
  do
  :: done -> break
  :: !done && (S==0 || g>MAXG) -> goto start
  :: atomic { !done && S!=0 && g<=MAXG -> i=0; ok=0;
     do
     :: i<3 -> if
       :: my[i]!=0 && tok[i]==my[i] -> AP_CFG(i); ok = ok | BIT(i)
#ifndef LEAN
       :: my[i]!=0 && tok[i]==my[i] -> AP_CFG(i)              /* reply lost */
#endif
       :: true -> skip                                        /* request lost / down */
       fi; i++
     :: i>=3 -> break
     od; i=0;
     need=false;
     if
     :: (S & ~ok)!=0 -> S = S & ok; g++
     :: (S & ~ok)==0 -> need=true;
#if defined(B7a) || defined(B7b)
        if :: CNT(S)>=2 -> COMMITTED :: else fi
#elif defined(K8S)
        if :: CNT(ok)>=2 && (!k_has || (k_S & ~S)==0) -> COMMITTED :: else fi
#else
        if :: CNT(ok)>=2 -> COMMITTED :: else -> goto start fi    /* stall: no quorum */
#endif
     fi };
#if defined(B7a) || defined(B7b)
     if
     :: done || !need
     :: !done && need -> if
        :: atomic { k_epoch==e -> k_has=true; k_S=S; COMMITTED }
        :: goto start
        fi
     fi
#elif defined(K8S)
     if
     :: done || !need
     :: !done && need && CNT(ok)>=2 -> if      /* leave: clear the record */
        :: atomic { k_epoch==e -> k_has=false; k_S=0; COMMITTED }
        :: goto start
        fi
     :: !done && need && CNT(ok)<2 -> if       /* enter / stay: exact record  */
        :: atomic { k_epoch==e -> k_has=true; k_S=S; COMMITTED }
        :: goto start
        fi
     fi
#endif
  od;
  atomic { done=false; ok=0; i=0; need=false }
}

proctype Net() {
  do
  :: atomic { dlt!=0 -> if :: dlt>=tok[dli] -> data[dli]=dlv; al[dli]=true; dirty[dli]=dirty[dli]|dlm :: else fi; dlt=0; dlv=0; dlm=0; dli=0 }
  od
}

proctype Nexus() {
  byte e, g, S, i, ok, F, v, w, x, best, key, sn; byte my[3]; bool done, need;
start:
  atomic { e=0; g=0; S=0; i=0; ok=0; F=0; v=0; w=0; x=0; best=0; key=0; sn=0; my[0]=0; my[1]=0; my[2]=0; done=false; need=false };
end_idle:
  atomic { k_epoch<MAXE -> k_epoch++; e=k_epoch; sn=0; F=0; best=0; S=0; i=0; };
  /* ---- fence ---- */
  do
  :: i<3 -> atomic {
      if
      :: tok[i]<TOK(e,0) ->
#ifdef B1
         key = (tok[i]/4)*8 + cg[i] + 1;
#else
         key = ce[i]*8 + cg[i] + 1;
#endif
         tok[i]=TOK(e,0);
         if
         :: my[i]=TOK(e,0); F=F|BIT(i);
            if :: key>best -> best=key; S=cS[i] :: else fi
#ifndef LEAN
         :: skip                                   /* reply lost */
#endif
         fi
      :: true -> skip                              /* unreachable */
      fi; i++ }
  :: i>=3 -> break
  od;
#if defined(B7a)
  if
  :: CNT(F)>=2 -> S = S & F
  :: CNT(F)<2 && k_has && (k_S & F)==k_S -> S = k_S
  :: else -> goto start
  fi;
#elif defined(B7b) || defined(K8S)
  atomic { if
  :: k_has -> S = k_S & F
  :: !k_has && CNT(F)>=2 -> S = S & F
  :: else -> goto start
  fi };
#else
  if :: CNT(F)>=2 -> S = S & F :: else -> goto start fi;
#endif
  if :: S==0 -> goto start :: else fi;
  /* ---- re-commit under own epoch ---- */
  atomic { g=1; best=0; key=0; i=0; F=0 };
#ifndef B2
  settle();
#endif
  /* ---- make the active extent identical ---- */
#ifndef B3
  need=false;
  atomic { i=0; do :: i<3 -> if :: (S&BIT(i))!=0 && al[i] -> need=true :: else fi; i++ :: else -> break od; i=0;
  if
  :: need ->
     if
       :: (S&1)!=0 && tok[0]==my[0] -> v=data[0]
       :: (S&2)!=0 && tok[1]==my[1] -> v=data[1]
       :: (S&4)!=0 && tok[2]==my[2] -> v=data[2]
       :: else -> goto start
     fi;
     do
     :: i<3 && (S&BIT(i))!=0 && tok[i]==my[i] -> data[i]=v; al[i]=true; dirty[i]=dirty[i]|(7&~S); i++
     :: i<3 && (S&BIT(i))==0 -> i++
     :: i<3 && (S&BIT(i))!=0 -> goto start        /* lost / fenced / nexus dies half way */
     :: i>=3 -> break
     od; v=0; i=0
  :: else
  fi; need=false };
#endif
  atomic { if :: e>act_e -> act_e=e :: else fi; done=false; ok=0; need=false };
  /* ---- serve ---- */
  do
  :: goto start                                                    /* crash or clean stop */
  :: atomic { (S&1)!=0 && tok[0]==my[0] -> v=data[0]; if :: e>=act_e -> assert((poss & BIT(v))!=0); poss=BIT(v) :: else fi; v=0 }
  :: atomic { (S&2)!=0 && tok[1]==my[1] -> v=data[1]; if :: e>=act_e -> assert((poss & BIT(v))!=0); poss=BIT(v) :: else fi; v=0 }
  :: atomic { (S&4)!=0 && tok[2]==my[2] -> v=data[2]; if :: e>=act_e -> assert((poss & BIT(v))!=0); poss=BIT(v) :: else fi; v=0 }
  :: atomic { nw<MAXW -> nw++; w=nw; if :: e>=act_e -> poss=poss|BIT(w) :: else fi; i=0; ok=0;
     do
     :: i<3 && (S&BIT(i))!=0 ->
          if
          :: my[i]!=0 && tok[i]==my[i] -> data[i]=w; dirty[i]=dirty[i]|(7&~S); ok=ok|BIT(i);
#ifdef B9
             if :: al[i]=true :: al[i]=false fi
#else
             al[i]=true
#endif
#ifndef LEAN
          :: my[i]!=0 && tok[i]==my[i] -> data[i]=w; al[i]=true; dirty[i]=dirty[i]|(7&~S); my[i]=0
#endif
#ifndef NODELAY
          :: dlt==0 && my[i]!=0 -> dlt=my[i]; dlv=w; dlm=(7&~S); dli=i; my[i]=0
#endif
          :: my[i]=0
          fi; i++
     :: i<3 && (S&BIT(i))==0 -> i++
     :: i>=3 -> break
     od; i=0;
#ifdef B6
     if :: CNT(ok)>=2 -> poss=BIT(w); w=0; ok=0 :: else -> goto start fi };
#else
     if :: (S & ~ok)==0 -> poss=BIT(w); w=0; ok=0 :: else -> S = S & ok; g++; ok=0 fi };
     if
     :: w==0
     :: w!=0 -> settle()
     :: w!=0 -> goto start                                         /* nexus dies here */
     fi
#endif
#ifndef LEAN
     /* activity log retired lazily, one replica at a time, only when nothing is in flight */
  :: atomic { (S&1)!=0 && al[0] && tok[0]==my[0] -> al[0]=false }
  :: atomic { (S&2)!=0 && al[1] && tok[1]==my[1] -> al[1]=false }
  :: atomic { (S&4)!=0 && al[2] && tok[2]==my[2] -> al[2]=false }
#endif
     /* reconnect to a voter that is not in the set */
  :: atomic { (S&1)==0 && my[0]==0 && sn<MAXS && tok[0]<=TOK(e,sn) ->
#ifdef B5
        tok[0]=TOK(e,0); my[0]=TOK(e,0); sn++
#else
        sn++; tok[0]=TOK(e,sn); my[0]=TOK(e,sn)
#endif
     }
  :: atomic { (S&2)==0 && my[1]==0 && sn<MAXS && tok[1]<=TOK(e,sn) ->
#ifdef B5
        tok[1]=TOK(e,0); my[1]=TOK(e,0); sn++
#else
        sn++; tok[1]=TOK(e,sn); my[1]=TOK(e,sn)
#endif
     }
  :: atomic { (S&4)==0 && my[2]==0 && sn<MAXS && tok[2]<=TOK(e,sn) ->
#ifdef B5
        tok[2]=TOK(e,0); my[2]=TOK(e,0); sn++
#else
        sn++; tok[2]=TOK(e,sn); my[2]=TOK(e,sn)
#endif
     }
     /* rejoin */
  :: atomic { S!=7 && g<MAXG -> if
       :: (S&1)==0 && my[0]!=0 -> x=0
       :: (S&2)==0 && my[1]!=0 -> x=1
       :: (S&4)==0 && my[2]!=0 -> x=2
       :: else -> goto norejoin
       fi };
     /* read source + bitmap from one in-sync member */
     atomic { if
       :: (S&1)!=0 && tok[0]==my[0] -> v=data[0]; F=dirty[0]
       :: (S&2)!=0 && tok[1]==my[1] -> v=data[1]; F=dirty[1]
       :: (S&4)!=0 && tok[2]==my[2] -> v=data[2]; F=dirty[2]
       :: else -> goto start
       fi };
     atomic { if
       :: tok[x]==my[x] ->
#ifdef B4
          need = ((F & BIT(x))!=0);
#else
          need = ((F & BIT(x))!=0) || al[x];
#endif
          if :: need -> data[x]=v :: else fi;
#ifdef B8
          dirty[x]=0;
#else
          dirty[x] = F & ~BIT(x);
#endif
          al[x]=true; F=0; v=0
       :: my[x]=0; F=0; v=0; goto norejoin
       fi };
     S = S|BIT(x); g++; x=0; settle();
norejoin: atomic { x=0; v=0; F=0; need=false }
#if defined(B7b)
  :: atomic { k_has && k_epoch==e && CNT(S)>=2 -> k_has=false; k_S=0 }
#endif
#if defined(K8S)
  :: atomic { k_has && k_epoch==e && CNT(S)>=2 -> k_has=false; k_S=0 }
#endif
  od
}

init {
  atomic {
    cS[0]=7; cS[1]=7; cS[2]=7; cg[0]=1; cg[1]=1; cg[2]=1;
    run Nexus();
#ifndef ONE
    run Nexus();            /* a second one: zombie / duel */
#endif
    run Net()
  }
}
