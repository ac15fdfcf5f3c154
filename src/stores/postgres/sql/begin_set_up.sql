BEGIN ISOLATION LEVEL READ COMMITTED;
SET LOCAL statement_timeout TO {limit};
SET LOCAL idle_in_transaction_session_timeout TO {limit};
SELECT set_config('synchronous_commit', 'on', true) WHERE current_setting('synchronous_commit') = 'off';
