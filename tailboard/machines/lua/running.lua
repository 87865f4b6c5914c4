-- Lists the jobs that count towards limits and keys.
--
-- KEYS[1]  prefix of all keys
--
-- Returns {{id, queue, key}...}; key is '' if the job has none.

return list_running('')
