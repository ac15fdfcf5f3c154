SELECT hashtext(key) AS hash, {class} AS class, pg_advisory_lock_shared($1, hashtext(key))::text
FROM unnest($2) WITH ORDINALITY AS watched (key, n) ORDER BY n
