-- One database with an object of every kind that PostgreSQL 15 knows and a backup may lose. Run as a superuser in an empty
-- database called `everything`; it needs the label provider and the extension of tests/postgres/everything.rs.

-- Roles and what belongs to the server. ----------------------------------------------------------------------------
CREATE ROLE app LOGIN PASSWORD 'builder' CONNECTION LIMIT 40 VALID UNTIL '2099-01-01 00:00:00+00';
CREATE ROLE "odd ""role" NOLOGIN NOINHERIT CREATEDB;
CREATE ROLE reader;
CREATE ROLE reporter LOGIN CREATEROLE REPLICATION;
CREATE ROLE auditor BYPASSRLS;
CREATE ROLE elsewhere;
GRANT reader TO reporter WITH ADMIN OPTION;
SET SESSION AUTHORIZATION reporter;
GRANT reader TO auditor;
RESET SESSION AUTHORIZATION;
GRANT pg_monitor TO auditor;
COMMENT ON ROLE app IS 'owns; it''s "the" application';
SECURITY LABEL FOR warmspare_test ON ROLE app IS 'role label';
ALTER ROLE app SET work_mem = '8MB';
ALTER ROLE "odd ""role" SET search_path = "$user", "odd, schema";
ALTER ROLE ALL SET geqo_threshold = 13;
GRANT SET ON PARAMETER log_min_duration_statement TO app;
GRANT SET, ALTER SYSTEM ON PARAMETER work_mem TO "odd ""role" WITH GRANT OPTION;

-- The database itself. ---------------------------------------------------------------------------------------------
ALTER DATABASE everything OWNER TO app;
ALTER DATABASE everything CONNECTION LIMIT 90;
ALTER DATABASE everything SET search_path = "$user", public, "odd, schema";
ALTER DATABASE everything SET "custom.setting" = 'with ''quotes'' and \';
ALTER ROLE app IN DATABASE everything SET statement_timeout = '1min';
REVOKE TEMPORARY ON DATABASE everything FROM PUBLIC;
GRANT CONNECT, TEMPORARY ON DATABASE everything TO reader WITH GRANT OPTION;
SET SESSION AUTHORIZATION reader;
GRANT CONNECT ON DATABASE everything TO auditor;
RESET SESSION AUTHORIZATION;
COMMENT ON DATABASE everything IS 'it''s everything';
SECURITY LABEL FOR warmspare_test ON DATABASE everything IS 'database label';

-- Schemas. ---------------------------------------------------------------------------------------------------------
CREATE SCHEMA "odd, schema" AUTHORIZATION app;
COMMENT ON SCHEMA public IS 'ours now';
COMMENT ON SCHEMA "odd, schema" IS 'odd';
GRANT USAGE ON SCHEMA "odd, schema" TO "odd ""role" WITH GRANT OPTION;
SET SESSION AUTHORIZATION "odd ""role";
GRANT USAGE ON SCHEMA "odd, schema" TO auditor;
RESET SESSION AUTHORIZATION;
GRANT CREATE ON SCHEMA public TO app;
SECURITY LABEL FOR warmspare_test ON SCHEMA public IS 'schema label';

-- Types. -----------------------------------------------------------------------------------------------------------
CREATE TYPE color AS ENUM ('red', 'it''s, green');
ALTER TYPE color ADD VALUE 'first' BEFORE 'red';
CREATE DOMAIN positive AS numeric(12, 3) DEFAULT 7 NOT NULL CONSTRAINT above_zero CHECK (VALUE > 0);
ALTER DOMAIN positive ADD CONSTRAINT below_many CHECK (VALUE < 1000000) NOT VALID;
CREATE DOMAIN c_text AS text COLLATE "C";
CREATE TYPE pair AS (a positive, b text COLLATE "POSIX");
CREATE TYPE span AS RANGE (subtype = float8, subtype_diff = float8mi, multirange_type_name = spans);
CREATE TYPE shelly;
CREATE TYPE word;
CREATE FUNCTION word_in(cstring) RETURNS word LANGUAGE internal IMMUTABLE STRICT AS 'textin';
CREATE FUNCTION word_out(word) RETURNS cstring LANGUAGE internal IMMUTABLE STRICT AS 'textout';
CREATE TYPE word (INPUT = word_in, OUTPUT = word_out, INTERNALLENGTH = VARIABLE, ALIGNMENT = int4, STORAGE = extended, CATEGORY = 'W', PREFERRED = true, DEFAULT = 'none', DELIMITER = ';', COLLATABLE = true);
ALTER TYPE color OWNER TO app;
GRANT USAGE ON TYPE color TO reader WITH GRANT OPTION;
REVOKE USAGE ON TYPE positive FROM PUBLIC;
COMMENT ON TYPE color IS 'a type';
COMMENT ON DOMAIN positive IS 'a domain';
COMMENT ON CONSTRAINT above_zero ON DOMAIN positive IS 'of a domain';
COMMENT ON COLUMN pair.b IS 'of a composite type';
SECURITY LABEL FOR warmspare_test ON TYPE color IS 'type label';
SECURITY LABEL FOR warmspare_test ON DOMAIN positive IS 'domain label';

-- Functions, operators and what is built of them. ------------------------------------------------------------------
CREATE FUNCTION in_sql(x int, VARIADIC more int[] DEFAULT '{}') RETURNS int LANGUAGE sql IMMUTABLE LEAKPROOF PARALLEL SAFE COST 7 BEGIN ATOMIC SELECT CASE WHEN x > 0 THEN x END; SELECT x + 1; END;
CREATE FUNCTION rows_of(OUT a int, OUT b text) RETURNS SETOF record LANGUAGE plpgsql SECURITY DEFINER ROWS 17 SET search_path = pg_catalog, "odd, schema" SET work_mem = '3MB' AS $body$
BEGIN
	RETURN QUERY SELECT 1, $$;a 'quoted' \ thing; -- no comment$$; -- CRLF follows
END
$body$;
CREATE PROCEDURE proceed(INOUT x int) LANGUAGE plpgsql AS $$ BEGIN x := x + 1; COMMIT; END $$;
CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS $f$ BEGIN RETURN NEW; END $f$;
CREATE AGGREGATE total (int) (SFUNC = int4pl, STYPE = int, INITCOND = '0', COMBINEFUNC = int4pl, PARALLEL = safe, MSFUNC = int4pl, MINVFUNC = int4mi, MSTYPE = int, MINITCOND = '0', SORTOP = <);
CREATE AGGREGATE my_percentile (float8 ORDER BY anyelement) (SFUNC = ordered_set_transition, STYPE = internal, FINALFUNC = percentile_disc_final, FINALFUNC_EXTRA);
CREATE FUNCTION pair_eq(pair, pair) RETURNS bool LANGUAGE sql IMMUTABLE AS 'SELECT $1.b = $2.b';
CREATE FUNCTION pair_ne(pair, pair) RETURNS bool LANGUAGE sql IMMUTABLE AS 'SELECT $1.b <> $2.b';
CREATE FUNCTION pair_cmp(pair, pair) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT bttextcmp($1.b, $2.b)';
CREATE OPERATOR === (LEFTARG = pair, RIGHTARG = pair, FUNCTION = pair_eq, COMMUTATOR = ===, NEGATOR = !==, RESTRICT = eqsel, JOIN = eqjoinsel, MERGES);
CREATE OPERATOR !== (LEFTARG = pair, RIGHTARG = pair, FUNCTION = pair_ne, COMMUTATOR = !==, NEGATOR = ===);
CREATE OPERATOR !!! (RIGHTARG = int, FUNCTION = int4um);
CREATE OPERATOR FAMILY loose USING btree;
CREATE OPERATOR CLASS pair_ops FOR TYPE pair USING btree FAMILY loose AS OPERATOR 3 ===, FUNCTION 1 pair_cmp(pair, pair);
ALTER OPERATOR FAMILY loose USING btree ADD OPERATOR 3 = (int4, int4), FUNCTION 1 btint4cmp(int4, int4);
CREATE FUNCTION pair_to_int(pair) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT 1';
CREATE CAST (pair AS int) WITH FUNCTION pair_to_int(pair) AS ASSIGNMENT;
CREATE CAST (word AS text) WITHOUT FUNCTION AS IMPLICIT;
CREATE CAST (color AS text) WITH INOUT;
CREATE DEFAULT CONVERSION latin FOR 'LATIN1' TO 'UTF8' FROM iso8859_1_to_utf8;
CREATE COLLATION german (provider = icu, locale = 'de-u-co-phonebk');
CREATE COLLATION loosely (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
CREATE FUNCTION other_handler() RETURNS language_handler LANGUAGE c AS '$libdir/plpgsql', 'plpgsql_call_handler';
CREATE FUNCTION other_validator(oid) RETURNS void LANGUAGE c AS '$libdir/plpgsql', 'plpgsql_validator';
CREATE TRUSTED LANGUAGE plother HANDLER other_handler VALIDATOR other_validator;
CREATE TRANSFORM FOR int LANGUAGE sql (FROM SQL WITH FUNCTION prsd_lextype(internal), TO SQL WITH FUNCTION int4recv(internal));
CREATE ACCESS METHOD heap_too TYPE TABLE HANDLER heap_tableam_handler;
CREATE ACCESS METHOD tree_too TYPE INDEX HANDLER bthandler;
CREATE TEXT SEARCH PARSER parse (START = prsd_start, GETTOKEN = prsd_nexttoken, END = prsd_end, LEXTYPES = prsd_lextype, HEADLINE = prsd_headline);
CREATE TEXT SEARCH TEMPLATE plain (INIT = dsimple_init, LEXIZE = dsimple_lexize);
CREATE TEXT SEARCH DICTIONARY words (TEMPLATE = plain, STOPWORDS = 'english', ACCEPT = 'false');
CREATE TEXT SEARCH CONFIGURATION searching (PARSER = parse);
ALTER TEXT SEARCH CONFIGURATION searching ADD MAPPING FOR asciiword, word WITH words, simple;
ALTER OPERATOR === (pair, pair) OWNER TO app;
ALTER OPERATOR CLASS pair_ops USING btree OWNER TO app;
ALTER OPERATOR FAMILY loose USING btree OWNER TO app;
ALTER COLLATION german OWNER TO app;
ALTER CONVERSION latin OWNER TO app;
ALTER TEXT SEARCH DICTIONARY words OWNER TO app;
ALTER TEXT SEARCH CONFIGURATION searching OWNER TO app;
ALTER AGGREGATE total(int) OWNER TO app;
ALTER PROCEDURE proceed(int) OWNER TO app;
ALTER LANGUAGE plother OWNER TO app;
REVOKE EXECUTE ON FUNCTION rows_of() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION rows_of() TO reader;
GRANT EXECUTE ON PROCEDURE proceed(int) TO reader;
GRANT USAGE ON LANGUAGE plother TO reader;
GRANT EXECUTE ON FUNCTION pg_catalog.pg_ls_waldir() TO reader;
REVOKE SELECT ON pg_catalog.pg_stat_activity FROM PUBLIC;
GRANT SELECT ON pg_catalog.pg_stat_activity TO reader;
COMMENT ON FUNCTION in_sql(int, int[]) IS 'a function';
COMMENT ON PROCEDURE proceed(int) IS 'a procedure';
COMMENT ON AGGREGATE total(int) IS 'an aggregate';
COMMENT ON OPERATOR === (pair, pair) IS 'an operator';
COMMENT ON OPERATOR CLASS pair_ops USING btree IS 'an operator class';
COMMENT ON OPERATOR FAMILY loose USING btree IS 'an operator family';
COMMENT ON CAST (pair AS int) IS 'a cast';
COMMENT ON CONVERSION latin IS 'a conversion';
COMMENT ON COLLATION german IS 'a collation';
COMMENT ON LANGUAGE plother IS 'a language';
COMMENT ON TRANSFORM FOR int LANGUAGE sql IS 'a transform';
COMMENT ON ACCESS METHOD heap_too IS 'an access method';
COMMENT ON TEXT SEARCH PARSER parse IS 'a parser';
COMMENT ON TEXT SEARCH TEMPLATE plain IS 'a template';
COMMENT ON TEXT SEARCH DICTIONARY words IS 'a dictionary';
COMMENT ON TEXT SEARCH CONFIGURATION searching IS 'a configuration';
SECURITY LABEL FOR warmspare_test ON FUNCTION touch() IS 'function label';
SECURITY LABEL FOR warmspare_test ON AGGREGATE total(int) IS 'aggregate label';
SECURITY LABEL FOR warmspare_test ON LANGUAGE plother IS 'language label';

-- Tables, columns, constraints, indexes. ---------------------------------------------------------------------------
CREATE TABLE "odd, schema"."odd ""table" ("Column A" int, "select" text, "ü" text COLLATE "C", "new
line" int, "back\slash %s $1" int);
INSERT INTO "odd, schema"."odd ""table" VALUES (1, E'tab\tnewline\nback\\slash', 'ä'), (NULL, '', NULL), (2, E'\\N', E'\r'), (3, '\.', E'\b\f\v');
CREATE INDEX "odd; index" ON "odd, schema"."odd ""table" ("new
line");
CREATE TABLE numbers (f8 float8, f4 real, n numeric, n_few numeric(5, -2), b bytea, ts timestamptz, t timestamp, d date, ti time, tz timetz, i interval, m money, j jsonb, js json, bits bit varying, x xml, u uuid, net inet, p point, a int[][], o oid, lsn pg_lsn, tsv tsvector, r int4range, mr int4multirange, l "char");
INSERT INTO numbers VALUES ('NaN', '-Infinity', 'NaN', 12345, '\xdeadbeef00', 'infinity', '-infinity', '0044-03-15 BC', '24:00', '23:59:60+15:59', '1 mon -3 days 00:00:00.001', '12.34', '{"a": [1, null]}', '{"a" : 1, "a":2}', B'1011', '<a>é</a>', '00000000-0000-0000-0000-000000000001', '::1/64', '(NaN,inf)', '[0:1][2:3]={{1,2},{3,NULL}}', 1, '0/16B3748', '''a b'':1A', '(,5)', '{[1,2),[5,)}', '\000');
INSERT INTO numbers VALUES (0.1, 1e-40, 123456789012345678901234567890.000000001, 49, '', '-infinity', 'infinity', 'infinity', '00:00', '00:00-15:59', '-178000000 years', '-1', '"\u00e4"', '[]', B'', '', NULL, '10.0.0.1', '(0,-0)', '{}', 4294967295, 'FFFFFFFF/FFFFFFFF', '', 'empty', '{}', 'ä');
INSERT INTO numbers VALUES ('-0', 'Infinity', 'Infinity', NULL, NULL, '4713-01-01 00:00:00+00 BC', '294276-12-31 23:59:59.999999', '5874897-12-31');
INSERT INTO numbers (n, f8) VALUES ('-Infinity', '1e308');
CREATE TABLE no_columns ();
INSERT INTO no_columns DEFAULT VALUES;
INSERT INTO no_columns DEFAULT VALUES;
CREATE TABLE lost_columns (a int);
INSERT INTO lost_columns VALUES (1), (2), (3);
ALTER TABLE lost_columns DROP COLUMN a;
DO $$ BEGIN EXECUTE (SELECT 'CREATE TABLE widest (' || string_agg('c' || n || ' int', ',') || ')' FROM generate_series(1, 1600) n); EXECUTE (SELECT 'INSERT INTO widest VALUES (' || string_agg(CASE n % 5 WHEN 0 THEN 'NULL' ELSE n::text END, ',') || ')' FROM generate_series(1, 1600) n); END $$;
CREATE TABLE generated (id int GENERATED ALWAYS AS IDENTITY (START 7 INCREMENT 3), a int, twice int GENERATED ALWAYS AS (a * 2) STORED, other smallint GENERATED BY DEFAULT AS IDENTITY (SEQUENCE NAME "other ids" MINVALUE -5 START -5));
INSERT INTO generated (a) SELECT generate_series(1, 10);
CREATE TABLE only_generated (one int GENERATED ALWAYS AS (1) STORED);
INSERT INTO only_generated DEFAULT VALUES;
CREATE TABLE dropped (a int, b int, c text, d text);
INSERT INTO dropped VALUES (1, 2, 'x', repeat('long', 4000));
ALTER TABLE dropped DROP COLUMN b;
ALTER TABLE dropped ADD COLUMN e int DEFAULT 5;
ALTER TABLE dropped ALTER COLUMN c SET STATISTICS 250, ALTER COLUMN c SET STORAGE EXTERNAL, ALTER COLUMN c SET (n_distinct = -0.5, n_distinct_inherited = 3), ALTER COLUMN d SET COMPRESSION pglz;
ALTER TABLE dropped SET (fillfactor = 70, autovacuum_enabled = false, toast.autovacuum_enabled = false, toast_tuple_target = 300);
CREATE TABLE strict (id int, email text, at daterange, parent int, big bigint DEFAULT -9223372036854775808 NOT NULL,
  CONSTRAINT strict_key PRIMARY KEY (id) INCLUDE (big), CONSTRAINT one_null UNIQUE NULLS NOT DISTINCT (email),
  CONSTRAINT apart EXCLUDE USING gist (at WITH &&) WHERE (id > 3), CONSTRAINT sane CHECK (id > 0) NO INHERIT);
ALTER TABLE strict ADD CONSTRAINT later UNIQUE (id, email) DEFERRABLE INITIALLY DEFERRED;
INSERT INTO strict VALUES (1, 'a', '[2020-01-01,2020-02-01)', NULL), (2, 'b', NULL, 1), (3, NULL, NULL, 2);
CREATE UNIQUE INDEX strict_ids ON strict (id);
ALTER TABLE strict ADD CONSTRAINT up FOREIGN KEY (parent) REFERENCES strict (id) MATCH FULL ON DELETE SET NULL ON UPDATE CASCADE DEFERRABLE INITIALLY DEFERRED NOT VALID;
CREATE TABLE pointing (a int, b int, CONSTRAINT to_strict FOREIGN KEY (a) REFERENCES strict (id) ON DELETE SET DEFAULT (a));
CREATE TABLE pointing_off (a int CONSTRAINT unchecked REFERENCES strict);
INSERT INTO pointing_off VALUES (1);
ALTER TABLE pointing_off DISABLE TRIGGER ALL;
CREATE INDEX lower_email ON strict (lower(email) COLLATE "C" text_pattern_ops DESC NULLS LAST) INCLUDE (id) WITH (fillfactor = 60) WHERE id > 1;
ALTER INDEX lower_email ALTER COLUMN 1 SET STATISTICS 44;
ALTER TABLE strict CLUSTER ON strict_key;
ALTER TABLE strict REPLICA IDENTITY USING INDEX strict_ids;
CREATE INDEX brin_id ON numbers USING brin (d) WITH (pages_per_range = 4, autosummarize = on);
CREATE INDEX gin_j ON numbers USING gin (j jsonb_path_ops) WITH (fastupdate = off);
CREATE INDEX hash_u ON numbers USING hash (u);
CREATE INDEX spgist_p ON numbers USING spgist (p);
CREATE TABLE other_method (a int) USING heap_too;
INSERT INTO other_method VALUES (1);
CREATE TABLE of_type OF pair (b WITH OPTIONS DEFAULT 'x', PRIMARY KEY (b));
INSERT INTO of_type VALUES (3, 'y');
CREATE TABLE typed (p pair, s span, ps pair[], c color DEFAULT 'red', w word, sp spans, ct c_text);
INSERT INTO typed VALUES ((1, 'x'), '[1,5)', ARRAY[(2, 'y')::pair], 'it''s, green', 'a;b', '{[1,2)}', 'z');
CREATE UNLOGGED TABLE fleeting (a serial, b text);
INSERT INTO fleeting (b) VALUES ('x'), ('y');
CREATE TABLE huge (id int, t text, b bytea);
INSERT INTO huge SELECT n, repeat(md5(n::text), 60000), decode(repeat(md5(n::text), 20000), 'hex') FROM generate_series(1, 3) n;
CREATE TABLE uneven (id int, pad text);
INSERT INTO uneven SELECT n, repeat('x', (n * 7919) % 1900) FROM generate_series(1, 2000) n;
DELETE FROM uneven WHERE id % 3 = 0;

-- Partitions of every kind, inheritance. ---------------------------------------------------------------------------
CREATE TABLE measured (at date NOT NULL, v int, k text DEFAULT 'none') PARTITION BY RANGE (at);
CREATE TABLE measured_2024 PARTITION OF measured (v DEFAULT 3, CONSTRAINT few CHECK (v < 1000)) FOR VALUES FROM ('2024-01-01') TO ('2025-01-01');
CREATE TABLE measured_old PARTITION OF measured FOR VALUES FROM (MINVALUE) TO ('2000-01-01') PARTITION BY LIST (k);
CREATE TABLE measured_old_ab PARTITION OF measured_old FOR VALUES IN ('a', 'b', NULL);
CREATE TABLE measured_old_rest PARTITION OF measured_old DEFAULT;
CREATE TABLE other_order (k text, dropped int, v int, at date NOT NULL);
ALTER TABLE other_order DROP COLUMN dropped;
ALTER TABLE measured ATTACH PARTITION other_order FOR VALUES FROM ('2030-01-01') TO ('2031-01-01');
CREATE TABLE measured_rest PARTITION OF measured DEFAULT;
CREATE INDEX measured_at ON measured (at);
CREATE INDEX measured_partly ON ONLY measured (v);
CREATE INDEX measured_2024_v ON measured_2024 (v);
ALTER INDEX measured_partly ATTACH PARTITION measured_2024_v;
INSERT INTO measured SELECT '2024-06-01'::date + n * 140, n FROM generate_series(1, 20) n;
INSERT INTO measured VALUES ('0044-03-15 BC', 1, 'a'), ('1999-01-01', 2, NULL), ('-infinity', 3, 'z');
CREATE TABLE hashed (id int, t text, PRIMARY KEY (id)) PARTITION BY HASH (id);
CREATE TABLE hashed_0 PARTITION OF hashed FOR VALUES WITH (MODULUS 2, REMAINDER 0);
CREATE TABLE hashed_1 PARTITION OF hashed FOR VALUES WITH (MODULUS 2, REMAINDER 1);
INSERT INTO hashed SELECT n, 't' || n FROM generate_series(1, 50) n;
CREATE TABLE to_hashed (h int REFERENCES hashed);
CREATE TABLE parent (a int CONSTRAINT a_small CHECK (a < 100), shared text DEFAULT 'p', late int);
CREATE TABLE child (b int, shared text DEFAULT 'c') INHERITS (parent);
CREATE TABLE grandchild () INHERITS (child);
INSERT INTO parent VALUES (1);
INSERT INTO child VALUES (2, 'x', 4, 3);
INSERT INTO grandchild VALUES (5, 'y', 7, 6);

-- Views, rules, triggers, policies, statistics. --------------------------------------------------------------------
CREATE VIEW simple AS SELECT a, -1 AS minus, -1.5 AS fraction FROM parent;
CREATE VIEW guarded WITH (security_barrier, security_invoker = true) AS SELECT id, email FROM strict WHERE id > 0 WITH CASCADED CHECK OPTION;
ALTER VIEW guarded ALTER COLUMN email SET DEFAULT 'someone';
CREATE RECURSIVE VIEW counting_up (n) AS VALUES (1) UNION ALL SELECT n + 1 FROM counting_up WHERE n < 5;
CREATE VIEW grouped AS SELECT id, email, count(*) FROM hashed JOIN strict USING (id) GROUP BY strict.id, email, hashed.id;
CREATE MATERIALIZED VIEW z_first AS SELECT v, at FROM measured;
CREATE VIEW middle AS SELECT v FROM z_first;
CREATE MATERIALIZED VIEW a_second WITH (fillfactor = 50) AS SELECT sum(v) FROM middle;
CREATE MATERIALIZED VIEW a_third AS SELECT sum + 1 AS s, rows_of() IS NULL AS f FROM a_second;
CREATE UNIQUE INDEX z_first_at ON z_first (at);
CREATE MATERIALIZED VIEW unfilled AS SELECT 1 AS x WITH NO DATA;
CREATE MATERIALIZED VIEW stale AS SELECT count(*) FROM parent;
INSERT INTO parent VALUES (8);
ALTER MATERIALIZED VIEW z_first OWNER TO app;
GRANT SELECT ON measured TO app;
CREATE TABLE audited (a int, b int DEFAULT -1 CHECK (b > -1000));
CREATE VIEW audited_view AS SELECT * FROM audited;
CREATE TRIGGER plain BEFORE INSERT ON audited FOR EACH ROW EXECUTE FUNCTION touch('x', 'it''s');
CREATE TRIGGER off AFTER UPDATE ON audited REFERENCING OLD TABLE AS before NEW TABLE AS after FOR EACH STATEMENT EXECUTE FUNCTION touch();
CREATE TRIGGER off2 BEFORE UPDATE OF a, b ON audited FOR EACH ROW WHEN (OLD.a IS DISTINCT FROM NEW.a) EXECUTE FUNCTION touch();
CREATE TRIGGER on_replica BEFORE INSERT ON audited FOR EACH ROW EXECUTE FUNCTION touch();
CREATE TRIGGER on_always BEFORE INSERT ON audited FOR EACH ROW EXECUTE FUNCTION touch();
CREATE CONSTRAINT TRIGGER deferred AFTER INSERT ON audited DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION touch();
CREATE TRIGGER instead INSTEAD OF INSERT ON audited_view FOR EACH ROW EXECUTE FUNCTION touch();
CREATE TRIGGER per_row AFTER INSERT ON measured FOR EACH ROW EXECUTE FUNCTION touch();
ALTER TABLE audited DISABLE TRIGGER off, DISABLE TRIGGER off2, ENABLE REPLICA TRIGGER on_replica, ENABLE ALWAYS TRIGGER on_always;
ALTER TABLE measured_2024 DISABLE TRIGGER per_row;
CREATE RULE both_ways AS ON DELETE TO audited WHERE OLD.a > 5 DO INSTEAD (UPDATE audited SET a = a; UPDATE audited SET b = b);
CREATE RULE switched_off AS ON UPDATE TO audited DO ALSO NOTIFY changed;
ALTER TABLE audited DISABLE RULE switched_off;
CREATE TABLE secret (who text, what text);
INSERT INTO secret VALUES ('reader', 'x'), ('app', 'y');
ALTER TABLE secret ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY own ON secret FOR SELECT TO reader, app USING (who = CURRENT_USER);
CREATE POLICY never ON secret AS RESTRICTIVE FOR UPDATE USING (false) WITH CHECK (what <> 'z');
CREATE TABLE policy_off (a int);
CREATE POLICY waiting ON policy_off USING (a > 0);
CREATE STATISTICS related (ndistinct, dependencies) ON a, b FROM audited;
CREATE STATISTICS "odd, schema".expressed ON (a % 10), (b + a) FROM audited;
ALTER STATISTICS related SET STATISTICS 99;
ALTER STATISTICS related OWNER TO app;

-- Sequences. -------------------------------------------------------------------------------------------------------
CREATE SEQUENCE counting AS smallint START 5 INCREMENT -1 MINVALUE -10 MAXVALUE 9 CACHE 3 CYCLE;
SELECT nextval('counting'), nextval('counting');
CREATE SEQUENCE untouched START 42;
CREATE SEQUENCE used_up MAXVALUE 2;
SELECT setval('used_up', 2);
CREATE UNLOGGED SEQUENCE unlogged_ids;
CREATE SEQUENCE owned OWNED BY audited.b;

-- Owners, privileges, comments and labels of relations. ------------------------------------------------------------
ALTER TABLE audited OWNER TO app;
ALTER VIEW simple OWNER TO app;
ALTER SEQUENCE counting OWNER TO app;
GRANT SELECT, INSERT ON audited TO reader WITH GRANT OPTION;
SET SESSION AUTHORIZATION reader;
GRANT SELECT ON audited TO auditor;
RESET SESSION AUTHORIZATION;
REVOKE TRUNCATE ON audited FROM app;
GRANT UPDATE (b), SELECT (a) ON audited TO reporter WITH GRANT OPTION;
GRANT USAGE ON SEQUENCE counting TO reader;
GRANT SELECT ON simple, a_second TO PUBLIC;
ALTER DEFAULT PRIVILEGES FOR ROLE app IN SCHEMA public GRANT SELECT ON TABLES TO reader WITH GRANT OPTION;
ALTER DEFAULT PRIVILEGES FOR ROLE app REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC;
ALTER DEFAULT PRIVILEGES FOR ROLE app GRANT USAGE ON SCHEMAS TO "odd ""role";
ALTER DEFAULT PRIVILEGES FOR ROLE app GRANT USAGE ON TYPES TO elsewhere;
ALTER DEFAULT PRIVILEGES FOR ROLE app GRANT ALL ON SEQUENCES TO reader;
COMMENT ON TABLE audited IS E'two\nlines; and a semicolon\\n';
COMMENT ON COLUMN audited.a IS 'a column';
COMMENT ON VIEW simple IS 'a view';
COMMENT ON COLUMN simple.a IS 'a column of a view';
COMMENT ON MATERIALIZED VIEW a_second IS 'a materialized view';
COMMENT ON SEQUENCE counting IS 'a sequence';
COMMENT ON INDEX lower_email IS 'an index';
COMMENT ON CONSTRAINT sane ON strict IS 'a constraint';
COMMENT ON TRIGGER plain ON audited IS 'a trigger';
COMMENT ON RULE both_ways ON audited IS 'a rule';
COMMENT ON POLICY own ON secret IS 'a policy';
COMMENT ON STATISTICS related IS 'statistics';
SECURITY LABEL FOR warmspare_test ON TABLE audited IS 'table label';
SECURITY LABEL FOR warmspare_test ON COLUMN audited.a IS 'it''s a column label';
SECURITY LABEL FOR warmspare_test ON VIEW simple IS 'view label';
SECURITY LABEL FOR warmspare_test ON MATERIALIZED VIEW a_second IS 'materialized view label';
SECURITY LABEL FOR warmspare_test ON SEQUENCE counting IS 'sequence label';

-- Large objects. ---------------------------------------------------------------------------------------------------
SELECT lo_from_bytea(70001, decode(repeat(md5('lo'), 40000), 'hex')), lo_create(70002), lo_from_bytea(70003, '\x00'), lo_from_bytea(70004, 'four');
SELECT lo_put(70003, 3000000, 'after a hole');
ALTER LARGE OBJECT 70001 OWNER TO app;
GRANT SELECT ON LARGE OBJECT 70001 TO reader WITH GRANT OPTION;
GRANT UPDATE ON LARGE OBJECT 70002 TO PUBLIC;
SET SESSION AUTHORIZATION reader;
GRANT SELECT ON LARGE OBJECT 70001 TO auditor;
RESET SESSION AUTHORIZATION;
REVOKE UPDATE ON LARGE OBJECT 70004 FROM CURRENT_USER;
COMMENT ON LARGE OBJECT 70001 IS E'a large\tobject';
SECURITY LABEL FOR warmspare_test ON LARGE OBJECT 70002 IS 'large object label';

-- Extensions, one with tables of its own in which the operator keeps rows. -----------------------------------------
CREATE EXTENSION hstore SCHEMA "odd, schema";
CREATE EXTENSION pgcrypto;
CREATE EXTENSION keeps_rows;
INSERT INTO keeps.configured (name, builtin) VALUES ('mine', false), ('also mine', false);
INSERT INTO keeps.all_mine VALUES ('x');
SELECT nextval('keeps.numbers');
GRANT SELECT ON keeps.configured TO reader;
REVOKE EXECUTE ON FUNCTION gen_random_bytes(int) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION gen_random_bytes(int) TO app;
COMMENT ON EXTENSION hstore IS 'an extension';
CREATE TABLE with_hstore (h "odd, schema".hstore);
INSERT INTO with_hstore VALUES ('a=>1');

-- Foreign data. ----------------------------------------------------------------------------------------------------
CREATE EXTENSION file_fdw;
CREATE FOREIGN DATA WRAPPER dummy OPTIONS (testing 'it''s', other '2');
CREATE SERVER far TYPE 'kind' VERSION '1.2' FOREIGN DATA WRAPPER dummy OPTIONS (host 'far.example', "odd name" 'x');
CREATE SERVER files FOREIGN DATA WRAPPER file_fdw;
CREATE USER MAPPING FOR app SERVER far OPTIONS (user 'u', password 'hunter2');
CREATE USER MAPPING FOR PUBLIC SERVER far;
CREATE FOREIGN TABLE abroad (id int OPTIONS (name 'ID') NOT NULL DEFAULT 3, t text COLLATE "C", CONSTRAINT fine CHECK (id > 0)) SERVER far OPTIONS (tab 'remote', q 'a,b');
CREATE FOREIGN TABLE passwd (line text) SERVER files OPTIONS (filename '/etc/passwd');
CREATE TABLE spread (a int, b text) PARTITION BY LIST (a);
CREATE TABLE spread_here PARTITION OF spread FOR VALUES IN (1);
CREATE FOREIGN TABLE spread_abroad PARTITION OF spread FOR VALUES IN (2) SERVER far;
INSERT INTO spread VALUES (1, 'here');
CREATE TABLE spread_parent (a int);
CREATE FOREIGN TABLE child_abroad (c int) INHERITS (spread_parent) SERVER far;
INSERT INTO spread_parent VALUES (1);
ALTER FOREIGN DATA WRAPPER dummy OWNER TO warmspare;
ALTER SERVER far OWNER TO warmspare;
ALTER FOREIGN TABLE abroad OWNER TO app;
GRANT USAGE ON FOREIGN DATA WRAPPER dummy TO reader;
GRANT USAGE ON FOREIGN SERVER far TO app WITH GRANT OPTION;
GRANT SELECT ON abroad TO reader;
COMMENT ON FOREIGN DATA WRAPPER dummy IS 'a wrapper';
COMMENT ON SERVER far IS 'a server';
COMMENT ON FOREIGN TABLE abroad IS 'a foreign table';
COMMENT ON COLUMN abroad.id IS 'a column of a foreign table';
SECURITY LABEL FOR warmspare_test ON FOREIGN TABLE abroad IS 'foreign table label';

-- Replication. -----------------------------------------------------------------------------------------------------
CREATE PUBLICATION partly FOR TABLE strict (id, email) WHERE (id > 1), TABLE ONLY parent WITH (publish = 'insert, truncate', publish_via_partition_root = true);
CREATE PUBLICATION whole_schema FOR TABLES IN SCHEMA "odd, schema";
CREATE PUBLICATION everything_here FOR ALL TABLES;
CREATE SUBSCRIPTION listens CONNECTION 'host=127.0.0.1 port=1 dbname=x password=hunter2' PUBLICATION theirs, more WITH (connect = false, slot_name = 'odd_slot', binary = true, synchronous_commit = 'off', disable_on_error = true);
ALTER PUBLICATION partly OWNER TO warmspare;
COMMENT ON PUBLICATION partly IS 'a publication';
COMMENT ON SUBSCRIPTION listens IS 'a subscription';
SECURITY LABEL FOR warmspare_test ON PUBLICATION partly IS 'publication label';

-- Event triggers, last: from here on each definition leaves a row. -------------------------------------------------
CREATE TABLE ddl_seen (at timestamptz DEFAULT now(), tag text);
CREATE FUNCTION see_ddl() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO public.ddl_seen (tag) VALUES (tg_tag); END $$;
CREATE EVENT TRIGGER seeing ON ddl_command_end EXECUTE FUNCTION see_ddl();
CREATE EVENT TRIGGER seeing_some ON ddl_command_start WHEN TAG IN ('CREATE TABLE', 'REFRESH MATERIALIZED VIEW') EXECUTE FUNCTION see_ddl();
CREATE EVENT TRIGGER not_seeing ON sql_drop EXECUTE FUNCTION see_ddl();
ALTER EVENT TRIGGER not_seeing DISABLE;
ALTER EVENT TRIGGER seeing_some ENABLE ALWAYS;
COMMENT ON EVENT TRIGGER seeing IS 'an event trigger';
SECURITY LABEL FOR warmspare_test ON EVENT TRIGGER seeing IS 'event trigger label';
