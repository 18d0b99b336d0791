-- Reads the changes after an entry, and says whether some may have been missed.
--
-- KEYS: 1 changes.
-- ARGV: 1 the entry that was read last (0-0: none), 2 how many changes to read at most, 3 the entry that was written
-- last and not read yet (0-0: none).
-- Answer: {replication id of this server, 1 if both are still there and 0 if not, the entries after the first}.

local replid = string.match(redis.call('INFO', 'replication'), 'master_replid:(%x+)')
local there = 1
for _, entry in ipairs({ARGV[1], ARGV[3]}) do
    if entry ~= '0-0' and #redis.call('XRANGE', KEYS[1], entry, entry) == 0 then
        there = 0
    end
end
local found = redis.call('XREAD', 'COUNT', ARGV[2], 'STREAMS', KEYS[1], ARGV[1])
return {replid, there, found and found[1][2] or {}}
