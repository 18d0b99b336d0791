-- Notices a new epoch, behind epoch.lua.
--
-- KEYS: 1 epoch.
-- ARGV: 1 quarantine in ms.
-- Answer: {number of the epoch, ms for which nothing is granted, {owner ids that have not settled again}}.

local epoch = note_epoch(KEYS[1], tonumber(ARGV[1]))
return {epoch.number, epoch.refused_ms, epoch.behind}
