/*-------------------------------------------------------------------------
 *
 * prelude.cc
 *		What every realm begins with, in JavaScript.
 *
 * A function that is called once in a new realm, with what it cannot do itself
 * (native), the design document and whether the realm is for views.  It defines
 * what CouchDB offers to functions of design documents, and takes the clock away.
 *
 * A design document may spoil what is built in (Array.prototype, JSON.parse, ...)
 * and so confuse the functions below; that harms nobody but itself, for nothing
 * here takes part in saying what came of a call.
 *
 *-------------------------------------------------------------------------
 */
#include "engine.h"

const char *const prelude_source = R"js(
(function (native, ddoc, views) {
	"use strict";

	const world = globalThis;
	const stringify = JSON.stringify;
	const construct = Reflect.construct;
	const define = Object.defineProperty;
	const owns = Function.prototype.call.bind(Object.prototype.hasOwnProperty);

	function give(name, value) {
		define(world, name, { value, writable: true, configurable: true, enumerable: false });
	}

	give("isArray", Array.isArray);
	give("toJSON", function toJSON(value) { return stringify(value); });
	give("sum", function sum(values) {
		let total = 0;
		for (const i in values)
			total += values[i];
		return total;
	});
	give("log", function log(message) {
		native.log(typeof message === "string" ? message : stringify(message) + "");
	});
	if (views)
		give("emit", native.emit);

	/* the same numbers in every call, so that a function says the same of the same document */
	define(Math, "random", { value: native.random, writable: true, configurable: true });

	/*
	 * There is no clock.  Dates can be made from values.
	 */
	const RealDate = Date;

	function noClock() {
		throw new Error("there is no clock here: a Date needs a value, as in new Date(doc.date)");
	}

	function NewDate(...values) {
		if (new.target === undefined || values.length === 0)
			noClock();
		return construct(RealDate, values, new.target);
	}

	define(NewDate, "name", { value: "Date", configurable: true });
	define(NewDate, "length", { value: 7, configurable: true });
	define(NewDate, "prototype", { value: RealDate.prototype, writable: false });
	define(RealDate.prototype, "constructor",
		{ value: NewDate, writable: true, configurable: true, enumerable: false });
	for (const name of ["parse", "UTC"])
		define(NewDate, name, { value: RealDate[name], writable: true, configurable: true });
	define(NewDate, "now", { value: function now() { noClock(); }, writable: true, configurable: true });
	give("Date", NewDate);

	for (const name of ["SharedArrayBuffer", "Atomics", "WebAssembly"])
		delete world[name];

	/*
	 * CommonJS modules of the design document.  A module is found by the names of the
	 * members that lead to its source; "." and ".." are relative to the module that
	 * asks.  It is run once; one that asks for itself in a circle gets what is there.
	 */
	const modules = new Map();

	function error(name, message) {
		const e = new Error(message);
		e.name = name;
		return e;
	}

	function badPath(message) {
		return error("invalid_require_path", message);
	}

	function place(path, from) {
		const names = path.split("/");
		let at = [];
		if (names[0] === "." || names[0] === "..") {
			if (from === null)
				throw badPath("Object has no parent: " + path);
			at = from.slice(0, -1);
		}
		for (const name of names) {
			if (name === "..") {
				if (at.length === 0)
					throw badPath("Object has no parent: " + path);
				at.pop();
			}
			else if (name !== "." && name !== "")
				at.push(name);
		}
		return at;
	}

	function source(at) {
		let here = ddoc;
		for (const name of at) {
			if (typeof here !== "object" || here === null || !owns(here, name))
				throw badPath('Object has no property "' + name + '". ' + stringify(here));
			here = here[name];
		}
		if (typeof here !== "string")
			throw badPath("Must require a JavaScript string, not: " + typeof here);
		return here;
	}

	function load(path, from) {
		const at = place(path + "", from);
		const id = at.join("/");
		if (modules.has(id))
			return modules.get(id).exports;
		const text = source(at);
		const module = { id, exports: {} };
		modules.set(id, module);
		try {
			const run = native.compile("(function (module, exports, require) {" + text + "\n})", id);
			run(module, module.exports, (next) => load(next, at));
		}
		catch (e) {
			modules.delete(id);
			throw error("compilation_error", "Module require('" + path + "') raised error " + e);
		}
		return module.exports;
	}

	give("require", function require(path) { return load(path, null); });
})
)js";
