-- What every session of ours needs, whatever the server's or the role's defaults; a pooler's gets it within each
-- transaction instead (begin_pooled.sql). Settings that this server does not know are left out.
-- $1: how long a statement may take, in milliseconds.
SELECT set_config(wanted.name, wanted.value, false) IS NOT NULL AS done
FROM (VALUES
    ('default_transaction_isolation', 'read committed'),
    ('statement_timeout', $1::text),
    ('idle_in_transaction_session_timeout', $1::text),
    -- Plans are made once, for a table of any size: index scans, whatever the statistics say today.
    ('plan_cache_mode', 'force_generic_plan'),
    ('enable_seqscan', 'off'),
    ('jit', 'off'),
    ('tcp_keepalives_idle', '15'),
    ('tcp_keepalives_interval', '5'),
    ('tcp_keepalives_count', '3'),
    -- A lock that a crash forgets is no lock.
    ('synchronous_commit', CASE current_setting('synchronous_commit') WHEN 'off' THEN 'on' END)
) AS wanted (name, value)
WHERE wanted.value IS NOT NULL AND current_setting(wanted.name, true) IS NOT NULL
