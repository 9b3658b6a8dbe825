// What Apache's nano and the Cloudant SDK read from a database: node clients.js
// SERVER DB IDS [USER PASSWORD].  Prints JSON: for each client the counts, the ids
// and winning revisions of the changes feed, and some documents and attachments.
'use strict';
const crypto = require('crypto');
const nano = require('nano');
const { CloudantV1 } = require('@ibm-cloud/cloudant');
const { NoAuthAuthenticator, BasicAuthenticator } = require('ibm-cloud-sdk-core');
const { canonical, main } = require('./pouch');

const sha256 = (data) => crypto.createHash('sha256').update(data).digest('hex');

// A document without what the server adds.
function body(doc) {
	return canonical(Object.fromEntries(Object.entries(doc).filter(([key]) => key[0] !== '_')));
}

async function byNano(base, name, ids) {
	const db = nano(base).use(name);
	const info = await db.info();
	const feed = await db.changes({ style: 'all_docs' });
	const all = await db.list({ include_docs: true });
	const seen = { docs: {}, attachments: {} };
	for (const id of ids) {
		const doc = await db.get(id);
		seen.docs[id] = body(doc);
		for (const key of Object.keys(doc._attachments || {})) {
			seen.attachments[id + ' ' + key] = sha256(await db.attachment.get(id, key));
		}
	}
	return summary(info, feed, all, seen);
}

async function byCloudant(base, name, ids, user, password) {
	const authenticator = user === undefined ? new NoAuthAuthenticator() : new BasicAuthenticator({ username: user, password });
	const service = new CloudantV1({ authenticator });
	service.setServiceUrl(base);
	const info = (await service.getDatabaseInformation({ db: name })).result;
	const feed = (await service.postChanges({ db: name, style: 'all_docs' })).result;
	const all = (await service.postAllDocs({ db: name, includeDocs: true })).result;
	const seen = { docs: {}, attachments: {} };
	for (const id of ids) {
		const doc = id.startsWith('_design/')
			? (await service.getDesignDocument({ db: name, ddoc: id.slice(8) })).result
			: (await service.getDocument({ db: name, docId: id })).result;
		seen.docs[id] = body(doc);
		for (const key of Object.keys(doc._attachments || {})) {
			const stream = (await service.getAttachment({ db: name, docId: id, attachmentName: key })).result;
			const parts = [];
			for await (const part of stream) {
				parts.push(part);
			}
			seen.attachments[id + ' ' + key] = sha256(Buffer.concat(parts));
		}
	}
	return summary(info, feed, all, seen);
}

function summary(info, feed, all, seen) {
	return {
		doc_count: info.doc_count ?? info.docCount,	// Cloudant's SDK renames it
		leaves: feed.results.reduce((sum, row) => sum + row.changes.length, 0),
		deleted: feed.results.filter((row) => row.deleted).length,
		bodies: sha256(all.rows.map((row) => Buffer.from(row.id).toString('hex') + ' ' + row.value.rev + ' ' + body(row.doc)).sort().join('\n')),
		...seen,
	};
}

main(async ([base, name, ids, user, password]) => {
	const wanted = JSON.parse(ids);
	const withUser = user === undefined ? base : base.replace('//', '//' + encodeURIComponent(user) + ':' + encodeURIComponent(password) + '@');
	process.stdout.write(JSON.stringify({
		nano: await byNano(withUser, name, wanted),
		cloudant: await byCloudant(base, name, wanted, user, password),
	}) + '\n');
});
