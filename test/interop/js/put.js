// Writes lines of JSON, documents with _revisions and attachments inline, with
// new_edits=false through PouchDB: node put.js URL < FILE
'use strict';
const { createInterface } = require('readline');
const { open, main } = require('./pouch');

main(async ([url]) => {
	const db = open(url);
	let batch = [];
	const write = async () => {
		const failed = (await db.bulkDocs(batch, { new_edits: false })).filter((row) => row.error);
		if (failed.length > 0) {
			throw new Error('not written: ' + JSON.stringify(failed.slice(0, 3)));
		}
		batch = [];
	};
	for await (const text of createInterface({ input: process.stdin, crlfDelay: Infinity })) {
		batch.push(JSON.parse(text));
		if (batch.length === 100) {
			await write();
		}
	}
	await write();
});
