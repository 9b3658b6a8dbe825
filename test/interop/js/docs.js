// Every leaf of a database as a line of JSON that can be written with
// new_edits=false: with its _revisions, and its attachments inline.
// node docs.js URL
'use strict';
const { open, each, main } = require('./pouch');

main(async ([url]) => {
	const db = open(url);
	const feed = await db.changes({ since: 0, style: 'all_docs', batch_size: 10000 });
	const named = feed.results.filter(({ id }) => id !== '.' && id !== '..');
	await each(named, 6, async ({ id }) => {
		for (const { ok } of await db.get(id, { open_revs: 'all', revs: true })) {
			for (const name of Object.keys(ok._attachments || {})) {
				const data = await db.getAttachment(id, name, { rev: ok._rev });
				const { content_type, revpos } = ok._attachments[name];
				ok._attachments[name] = { content_type, revpos, data: data.toString('base64') };
			}
			process.stdout.write(JSON.stringify(ok) + '\n');
		}
	});
});
