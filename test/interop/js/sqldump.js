// The same lines as dump.js from what SQL gives on standard input: a line of JSON
// for each leaf, as docrep.get shows it with revs and attachments => true.
'use strict';
const { createInterface } = require('readline');
const { main } = require('./pouch');
const { line, print } = require('./leaf');

main(async () => {
	const lines = [];
	for await (const text of createInterface({ input: process.stdin, crlfDelay: Infinity })) {
		const doc = JSON.parse(text);
		const contents = {};
		for (const name of Object.keys(doc._attachments || {})) {
			contents[name] = Buffer.from(doc._attachments[name].data, 'base64');
			if (doc._attachments[name].length === undefined) {
				doc._attachments[name].length = contents[name].length;
			}
		}
		lines.push(line(doc, contents));
	}
	print(lines);
});
