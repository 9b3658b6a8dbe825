// The form in which leaves are compared: a line of JSON for each leaf revision,
// whoever it was read from.
'use strict';
const crypto = require('crypto');
const { canonical } = require('./pouch');

// The line of a leaf as CouchDB shows it with revs=true, and of its attachments'
// contents (a map from names to Buffers).
function line(doc, contents) {
	const body = {};
	for (const key of Object.keys(doc)) {
		if (key[0] !== '_') {
			body[key] = doc[key];
		}
	}
	const revisions = doc._revisions;
	const leaf = {
		id: doc._id,
		rev: doc._rev,
		path: revisions.ids.map((hash, i) => (revisions.start - i) + '-' + hash),
		deleted: Boolean(doc._deleted),
		body,
		attachments: {},
	};
	for (const name of Object.keys(doc._attachments || {})) {
		const { digest, content_type, length, revpos } = doc._attachments[name];
		leaf.attachments[name] = {
			digest, content_type, length, revpos,
			sha256: crypto.createHash('sha256').update(contents[name]).digest('hex'),
		};
	}
	// The id and revision first: lines sort by them, and the test tells them from the rest.
	return JSON.stringify([leaf.id, leaf.rev]) + '\t' + canonical(leaf);
}

// Prints lines in the order of their bytes.
function print(lines) {
	const sorted = lines.map((text) => Buffer.from(text)).sort(Buffer.compare);
	process.stdout.write(sorted.map((text) => text + '\n').join(''));
}

module.exports = { line, print };
