// HTTP/2 over TLS in front of a server that has neither: what DocrepHttp2.pm starts.
//
//   node h2-front.js BACKEND_PORT CERT_FILE KEY_FILE LOG_FILE
//
// Prints its port.  Nothing but HTTP/2 is spoken.  The log has a line of JSON for each
// session ("alpn": what TLS agreed upon) and each request ("active": streams of that
// session that are open, this one included).  It ends with its standard input.
'use strict';

const fs = require('fs');
const http = require('http');
const http2 = require('http2');

const [backend, cert, key, logFile] = process.argv.slice(2);
const agent = new http.Agent({ keepAlive: true });
const server = http2.createSecureServer({ cert: fs.readFileSync(cert), key: fs.readFileSync(key), allowHTTP1: false });
let sessions = 0;

function log(entry)
{
	fs.appendFileSync(logFile, JSON.stringify(entry) + '\n');
}

// Headers of one connection only are not passed on.
function passedOn(headers)
{
	const result = {};
	for (const name of Object.keys(headers))
		if (!name.startsWith(':') && !['connection', 'keep-alive', 'transfer-encoding'].includes(name))
			result[name] = headers[name];
	return result;
}

server.on('session', (session) => {
	session.docrep = { number: ++sessions, active: 0 };
	session.on('error', () => {});
	log({ session: sessions, alpn: session.alpnProtocol, type: session.type });
});

server.on('stream', (stream, headers) => {
	const its = stream.session.docrep;
	its.active++;
	log({ session: its.number, stream: stream.id, active: its.active, method: headers[':method'], path: headers[':path'] });
	const request = http.request({
		host: '127.0.0.1', port: Number(backend), agent, method: headers[':method'], path: headers[':path'],
		headers: { host: headers[':authority'], ...passedOn(headers) },
	}, (answer) => {
		if (stream.destroyed)
			return answer.destroy();
		stream.respond({ ':status': answer.statusCode, ...passedOn(answer.headers) });
		answer.pipe(stream);
		answer.on('aborted', () => stream.close(http2.constants.NGHTTP2_INTERNAL_ERROR));
	});
	request.on('error', () => stream.close(http2.constants.NGHTTP2_INTERNAL_ERROR));
	stream.on('error', () => {});
	stream.on('close', () => { its.active--; request.destroy(); });
	stream.pipe(request);
});

server.on('tlsClientError', () => log({ tlsClientError: true }));
server.listen(0, '127.0.0.1', () => console.log(server.address().port));
process.stdin.on('end', () => process.exit(0)).resume();
