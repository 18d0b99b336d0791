-- Notices a new epoch, behind epoch.lua.
--
-- KEYS: 1 epoch.
-- ARGV: 1 quarantine in ms.
-- Answer: {number of the epoch, ms for which nothing is granted}.

return {note_epoch(KEYS[1], tonumber(ARGV[1]))}
