-- What a session leads to. Sets nothing, since the session may be a pooler's.
SELECT pg_backend_pid() AS pid,
       pg_is_in_recovery() AS standby,
       current_setting('transaction_read_only') = 'on' AS read_only
