// A user who edits a database at random through PouchDB:
//
//   node edit.js URL SEED EDITS PAUSE [SHARED]
//
// EDITS edits (0: until SIGTERM), each followed by a pause of 0 to
// PAUSE ms.  Documents are "shared N" (SHARED of them, which others edit, too), its own, and
// those that were there when it began.  A line of JSON for each edit that was
// acknowledged, [id, rev].  A server that is away is waited for; a conflict is lost.
'use strict';
const { open, random, main } = require('./pouch');

const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
let stop = false;

// Says what went wrong, and waits a little.
async function away(what, error) {
	process.stderr.write(what + ': ' + (error.message || JSON.stringify(error)) + '\n');
	await pause(200);
}

// The ids that are there, when the server is; [] if the test is over before that.
async function ids(db, goOn) {
	while (goOn()) {
		try {
			return (await db.allDocs()).rows.map((row) => row.id);
		} catch (error) {
			if (error.status >= 400 && error.status < 500) {
				throw error;
			}
			await away('all documents', error);
		}
	}
	return [];
}

function choose(next, list) {
	return list[Math.floor(next() * list.length)];
}

// One edit of a document as it is now (undefined: it is not there); the new
// version, or undefined if there is nothing to do.
async function edited(db, id, doc, next, i) {
	const what = next();
	if (doc === undefined) {
		return { _id: id, by: 'pouchdb', n: i, text: 'made '.repeat(1 + next() * 20) };
	}
	if (what < 0.12) {
		return { _id: id, _rev: doc._rev, _deleted: true, n: i };
	}
	if (what < 0.25) {
		const attached = Object.assign({}, doc._attachments);
		attached['file ' + Math.floor(next() * 3)] = { content_type: 'text/plain', data: Buffer.from('contents ' + i + ' ' + next()).toString('base64') };
		return Object.assign({}, doc, { n: i, _attachments: attached });
	}
	if (what < 0.30 && doc._attachments) {
		const less = Object.assign({}, doc, { n: i });
		delete less._attachments;
		return less;
	}
	if (what < 0.40 && doc._conflicts) {
		return { _id: id, _rev: doc._conflicts[0], _deleted: true };
	}
	return Object.assign({}, doc, { by: 'pouchdb', n: i, _conflicts: undefined });
}

main(async ([url, seed, edits, ms, shared]) => {
	const parent = process.ppid;
	process.on('SIGTERM', () => {
		stop = true;
	});
	const db = open(url);
	const next = random(Number(seed));
	const goOn = () => !stop && process.ppid === parent;
	const old = (await ids(db, goOn)).filter((id) => !id.startsWith('_design/') && id !== '.' && id !== '..');
	const own = Math.max(20, Number(edits) / 4);

	for (let i = 1; goOn() && (Number(edits) === 0 || i <= Number(edits)); i += 1) {
		const kind = next();
		let id = 'pouchdb ' + Math.floor(next() * own);
		if (shared && kind < 0.6) {
			id = 'shared ' + Math.floor(next() * Number(shared));
		} else if (kind < 0.8 && old.length > 0) {
			id = choose(next, old);
		}
		try {
			const doc = await db.get(id, { conflicts: true }).catch((error) => {
				if (error.status !== 404) {
					throw error;
				}
			});
			const wanted = await edited(db, id, doc, next, i);
			if (wanted !== undefined) {
				// the contents of other attachments stay: they are stubs
				delete wanted._conflicts;
				const { rev } = await db.put(wanted);
				process.stdout.write(JSON.stringify([id, rev]) + '\n');
			}
		} catch (error) {
			if (error.status !== 409 && error.status !== 412) {
				await away(id, error);
			}
		}
		await pause(next() * Number(ms));
	}
});
