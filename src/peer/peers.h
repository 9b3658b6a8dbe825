/*-------------------------------------------------------------------------
 *
 * peers.h
 *		What the files of this floor share: the kinds of peers, names of
 *		tables, and the hosts that may be connected to.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DOCREP_PEER_PEERS_H
#define DOCREP_PEER_PEERS_H

#include "peer/peer.h"

/*
 * Each kind's maker: a peer in cxt, its ops and what they need set, the
 * rest filled in by docrep_peer_make.
 */
extern DocrepPeer *docrep_local_peer_make(const DocrepEndpoint *endpoint, MemoryContext cxt);
extern DocrepPeer *docrep_postgres_peer_make(const DocrepEndpoint *endpoint, MemoryContext cxt);
extern DocrepPeer *docrep_couchdb_peer_make(const DocrepEndpoint *endpoint, MemoryContext cxt);

/* There is an event loop for parked replications with remote sources: remote_watch.c. */
#ifdef HAVE_SYS_EPOLL_H
#define DOCREP_CAN_WATCH
#endif

/*
 * Fill a place for an open peer that was made of "spec", in the current context;
 * what is its kind's own is left 0 (wait_place.c).
 */
extern void docrep_wait_place_fill(DocrepWaitPlace *place, const DocrepPeer *peer,
								   const char *spec, const char *since, bool restricted);

/*
 * The canonical form of a table's name ("orders", "public.orders", parts
 * quoted where they must be), or NULL if it is malformed.
 */
extern char *docrep_canonical_table_name(const char *name);

/* May a host (a name or an address) be connected to by ordinary roles? */
extern bool docrep_host_allowed(const char *host);

/*
 * May a connection be made to this address, which "host" (a name, or an address as
 * text) was resolved to?  docrep.denied_hosts counts for everyone,
 * docrep.allowed_hosts if restricted; a name or the address must match one of its
 * items.  For callbacks of libcurl: allocates nothing, raises nothing.
 */
typedef struct DocrepHostRules DocrepHostRules;
struct sockaddr;
extern DocrepHostRules *docrep_host_rules(const char *host, bool restricted);	/* palloc'd */
extern bool docrep_host_rules_allow(const DocrepHostRules *rules, const struct sockaddr *address);

/* Is there an address that this host might be resolved to and that is allowed? */
extern bool docrep_host_possible(const char *host, bool restricted);

/*
 * May a host be reached by something that resolves its name where we cannot see it?  An
 * address as any; a name, if restricted, only where the administrator has listed it as a
 * name, or where all lists are empty.
 */
extern bool docrep_host_certain(const char *host, bool restricted);

extern char *docrep_allowed_hosts;	/* the settings */
extern char *docrep_denied_hosts;
extern char *docrep_ssl_ca_file;

#endif							/* DOCREP_PEER_PEERS_H */
