// Load N documents with an attachment of SIZE bytes each: node attach.js SERVER DB N SIZE.
'use strict';
const crypto = require('crypto');
const { request } = require('./common');

(async () => {
	const [base, db, n, size] = process.argv.slice(2);
	await request(base, 'PUT', '/' + db);
	for (let i = 0; i < Number(n); i += 100) {
		const docs = [];
		for (let k = i; k < Math.min(i + 100, Number(n)); k += 1) {
			docs.push({
				_id: 'a' + k, n: k,
				_attachments: { 'data.bin': {
					content_type: 'application/octet-stream',
					data: crypto.randomBytes(Number(size)).toString('base64'),
				} },
			});
		}
		await request(base, 'POST', '/' + db + '/_bulk_docs', { docs });
	}
	process.exit(0);
})();
