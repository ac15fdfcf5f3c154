BEGIN ISOLATION LEVEL READ COMMITTED;
SET LOCAL lock_timeout TO {lock_timeout};
SET LOCAL statement_timeout TO {statement_timeout};
SET LOCAL idle_in_transaction_session_timeout TO {statement_timeout};
SET LOCAL enable_seqscan TO off;
SET LOCAL jit TO off;
SELECT set_config('synchronous_commit', 'on', true) WHERE current_setting('synchronous_commit') = 'off';
