-- The tables of Habitat Builder's datastore that a restore must not lose anything of.
SET search_path = public;

CREATE EXTENSION intarray;
CREATE TYPE origin_package_visibility AS ENUM ('public', 'private', 'hidden');
CREATE TYPE origin_member_role AS ENUM ('readonly_member', 'member', 'maintainer', 'administrator', 'owner');

CREATE SEQUENCE origin_package_id_seq;
CREATE FUNCTION next_id_v1(sequence_id regclass, OUT result bigint) AS $$
DECLARE
    our_epoch bigint := 1409266191000;
    seq_id bigint;
    now_millis bigint;
BEGIN
    SELECT nextval(sequence_id) % 1024 INTO seq_id;
    SELECT floor(extract(epoch FROM clock_timestamp()) * 1000) INTO now_millis;
    result := (now_millis - our_epoch) << 23;
    result := result | (seq_id << 13);
END;
$$ LANGUAGE plpgsql;

CREATE TABLE accounts (
    id bigint PRIMARY KEY DEFAULT public.next_id_v1('public.origin_package_id_seq'),
    name text UNIQUE,
    email text,
    created_at timestamptz DEFAULT now(),
    updated_at timestamptz DEFAULT now()
);
CREATE TABLE account_tokens (
    id bigserial PRIMARY KEY,
    account_id bigint UNIQUE REFERENCES accounts (id),
    token text UNIQUE NOT NULL,
    created_at timestamptz DEFAULT now()
);
CREATE TABLE origins (
    name text PRIMARY KEY,
    owner_id bigint NOT NULL,
    default_package_visibility origin_package_visibility NOT NULL DEFAULT 'public',
    hidden boolean NOT NULL DEFAULT false,
    created_at timestamptz DEFAULT now()
);
CREATE TABLE origin_members (
    origin text REFERENCES origins (name),
    account_id bigint REFERENCES accounts (id),
    member_role origin_member_role NOT NULL,
    PRIMARY KEY (origin, account_id)
);
CREATE TABLE origin_packages (
    id bigint PRIMARY KEY DEFAULT public.next_id_v1('public.origin_package_id_seq'),
    owner_id bigint NOT NULL,
    name text NOT NULL,
    ident text NOT NULL,
    ident_array text[],
    checksum text NOT NULL,
    manifest text NOT NULL,
    config text,
    target text NOT NULL,
    deps text[],
    tdeps text[],
    exposes integer[],
    scheduler_sync boolean DEFAULT false,
    visibility origin_package_visibility NOT NULL DEFAULT 'public',
    ident_vector tsvector,
    origin text NOT NULL REFERENCES origins (name),
    build_deps text[] DEFAULT '{}',
    build_tdeps text[] DEFAULT '{}',
    package_type text NOT NULL DEFAULT 'standard',
    hidden boolean NOT NULL DEFAULT false,
    created_at timestamptz DEFAULT now(),
    updated_at timestamptz DEFAULT now(),
    UNIQUE (ident, target)
);
CREATE INDEX origin_packages_ident_array ON origin_packages (ident_array);
CREATE INDEX origin_packages_ident_vector ON origin_packages USING gin (ident_vector);
CREATE INDEX origin_packages_exposes ON origin_packages USING gin (exposes gin__int_ops);

CREATE FUNCTION vectorize_ident() RETURNS trigger AS $$
BEGIN
    NEW.ident_vector := pg_catalog.to_tsvector('pg_catalog.simple', pg_catalog.replace(NEW.ident, '/', ' '));
    RETURN NEW;
END;
$$ LANGUAGE plpgsql;
CREATE TRIGGER origin_packages_vectorize BEFORE INSERT OR UPDATE OF ident ON origin_packages
    FOR EACH ROW EXECUTE FUNCTION vectorize_ident();

CREATE TABLE origin_channels (
    id bigserial PRIMARY KEY,
    owner_id bigint,
    name text NOT NULL,
    origin text REFERENCES origins (name),
    UNIQUE (name, origin)
);
CREATE TABLE origin_channel_packages (
    channel_id bigint REFERENCES origin_channels (id) ON DELETE CASCADE,
    package_id bigint REFERENCES origin_packages (id),
    created_at timestamptz DEFAULT now(),
    PRIMARY KEY (channel_id, package_id)
);
CREATE TABLE origin_secret_keys (
    id bigserial PRIMARY KEY,
    owner_id bigint,
    name text,
    revision text,
    full_name text UNIQUE,
    body text NOT NULL,
    origin text REFERENCES origins (name),
    encryption_key_rev text
);
CREATE VIEW origins_with_stats AS
    SELECT o.*, (SELECT count(DISTINCT p.name) FROM origin_packages p WHERE p.origin = o.name) AS package_count
    FROM origins o;

INSERT INTO accounts (id, name, email) SELECT n, 'account-' || n, 'account-' || n || '@example.org' FROM generate_series(1, 500) n;
INSERT INTO account_tokens (account_id, token) SELECT n, md5(n::text) FROM generate_series(1, 500) n;
INSERT INTO origins (name, owner_id) VALUES ('core', 1), ('acme', 2);
INSERT INTO origin_members SELECT 'core', n, 'member' FROM generate_series(1, 100) n;
INSERT INTO origin_channels (owner_id, name, origin) VALUES (1, 'unstable', 'core'), (1, 'stable', 'core');
INSERT INTO origin_secret_keys (owner_id, name, revision, full_name, body, origin, encryption_key_rev)
    VALUES (1, 'core', '20261121000000', 'core-20261121000000', 'sealed', 'core', '20261121000000');
