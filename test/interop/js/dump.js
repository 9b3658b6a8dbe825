// Every leaf of every document of a database, one a line (see leaf.js), read by
// PouchDB: node dump.js URL
'use strict';
const http = require('http');
const { open, each, main } = require('./pouch');
const { line, print } = require('./leaf');

// A GET that leaves the path alone: PouchDB cannot name the documents "." and "..",
// because fetch takes them for directories.
function bare(url, path) {
	const { hostname, port, pathname, username, password } = new URL(url);
	const auth = username && decodeURIComponent(username) + ':' + decodeURIComponent(password);
	return new Promise((resolve, reject) => {
		http.get({ hostname, port, auth: auth || undefined, path: pathname + path, headers: { Accept: 'application/json' } }, (answer) => {
			let text = '';
			answer.on('data', (part) => {
				text += part;
			});
			answer.on('end', () => resolve(JSON.parse(text)));
		}).on('error', reject);
	});
}

main(async ([url]) => {
	const db = open(url);
	const feed = await db.changes({ since: 0, style: 'all_docs', batch_size: 10000 });
	const lines = await each(feed.results, 24, async ({ id, changes }) => {
		const leaves = id === '.' || id === '..'
			? await bare(url, '/' + id + '?open_revs=all&revs=true')
			: await db.get(id, { open_revs: 'all', revs: true });
		const told = changes.map((change) => change.rev).sort().join();
		const found = leaves.map((leaf) => leaf.ok && leaf.ok._rev).sort().join();
		if (told !== found) {
			throw new Error(id + ': the feed says ' + told + ', open_revs says ' + found);
		}
		return each(leaves, 1, async ({ ok }) => {
			const contents = {};
			for (const name of Object.keys(ok._attachments || {})) {
				contents[name] = await db.getAttachment(id, name, { rev: ok._rev });
			}
			return line(ok, contents);
		});
	});
	print(lines.flat());
});
