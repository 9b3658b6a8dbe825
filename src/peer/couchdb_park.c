/*-------------------------------------------------------------------------
 *
 * couchdb_park.c
 *		Where changes of a CouchDB can be waited for when the peer is closed.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "peer/couchdb_source.h"
#include "peer/peers.h"

/*
 * Whether there is something already is not asked: the first thing that the
 * watch does is to ask for changes after "since".
 */
bool
docrep_couch_wait_place(DocrepPeer *base, const char *since, DocrepWaitPlace *place)
{
	CouchPeer  *peer = (CouchPeer *) base;

	docrep_wait_place_fill(place, base, peer->spec, since, peer->restricted);
	return true;
}
