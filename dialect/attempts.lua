-- What follows an attempt that failed: the same target again, another one, or no more. The decision's plan
-- (see Plan in attempts.go) is read only then.
--
-- Between two attempts at targets Envoy makes one at BETWEEN, which leads nowhere: it says where the next goes, and
-- fails to connect. Whoever failed without an answer (no connection, a reset, silence) leaves no other place for
-- that. After an answer with an error, envoy_on_response says whether there is another attempt at all, since from
-- BETWEEN the answer could no longer be passed on.
local BETWEEN = "logos_between_attempts"
local STATE = "logos.attempts"
-- On a request, the cluster of the next attempt; each cluster takes it off.
local CLUSTER = "x-logos-cluster"
-- On an answer, the route's retry policy obeys these two, if the first has the value MARK, which no provider knows;
-- the virtual host takes them off what callers get.
local AGAIN, AGAIN_IN = "x-logos-again", "x-logos-again-in"
-- An error answer that is longer than this is passed on unread.
local MAX_ERROR = 65536

-- Milliseconds by which Envoy's timers may seem to be early; after which it gives up a connection, and by when it
-- has done so. What ends then may be a reset as well, which is rare, and does no harm.
local EARLY = 10
local CONNECT, CONNECTED = 10000, 10200

-- What providers say of a prompt that is too long for the model: in the order below OpenAI and Azure; vLLM and
-- OpenAI; Anthropic twice; llama.cpp twice; SGLang and vLLM twice; Gemini.
local TOO_LONG = {
  "context_length_exceeded", "maximum context length",
  "prompt is too long", "exceed context limit",
  "exceed_context_size_error", "exceeds the available context size",
  "longer than the model's context length", "longer than the maximum model length",
  "input token count",
}
-- What a refusal of the content says; no other provider is asked then, whatever else the answer holds.
local REFUSED = {"content_filter", "content_policy", "responsibleaipolicyviolation"}

local function holds_any(text, words)
  for _, word in ipairs(words) do
    if string.find(text, word, 1, true) then return true end
  end
  return false
end

local function read_plan(metadata)
  local decision = metadata:get("logos")
  local text = decision and decision["p"]
  if not text then return nil end
  local start, max, total, wait, silence, on, targets = string.match(text, "^(%d+) (%d+) (%d+) (%d+) (%d+) (%a*);(.*)$")
  local plan = {start = tonumber(start), max = tonumber(max), total = tonumber(total), wait = tonumber(wait),
    silence = tonumber(silence), on = on, targets = {}, windows = {}}
  for name, window in string.gmatch(targets, "(%S+) (%d+)") do
    plan.targets[#plan.targets + 1] = name
    plan.windows[#plan.windows + 1] = tonumber(window)
  end
  return plan
end

-- The state counts the attempts at targets (made), and holds for each target its tries, from when it may be tried
-- again (0: no time was given), and whether it is out for this call. next is the target that was chosen after an
-- answer (0: there was none), at the last one, and begun when it was asked. Without a state, the first attempt is
-- under way.
local function read_state(metadata, plan)
  local kept = metadata:get(STATE)
  if kept then return kept["state"] end
  local state = {made = 1, at = 1, begun = plan.start, next = 0, tries = {}, from = {}, out = {}}
  for i = 1, #plan.targets do state.tries[i], state.from[i], state.out[i] = 0, 0, 0 end
  state.tries[1] = 1
  return state
end

-- choose returns the next target and the milliseconds to wait for it, or nil. Envoy waits whole seconds, and up to
-- half as long again.
local function choose(plan, state, now, again)
  if state.made >= plan.max or plan.total > 0 and now - plan.start >= plan.total then return nil end
  if again and state.tries[state.at] < 2 then return state.at, 0 end
  local best, wait
  for i, tries in ipairs(state.tries) do
    if state.out[i] == 0 and tries == 0 then return i, 0 end
    if state.out[i] == 0 and tries == 1 and state.from[i] > 0 then
      local w = math.ceil(math.max(0, state.from[i] - now) / 1000) * 1000
      if not wait or w < wait then best, wait = i, w end
    end
  end
  if best and wait <= plan.wait and (plan.total == 0 or now + wait * 1.5 - plan.start <= plan.total) then return best, wait end
  return nil
end

-- after_silence chooses after a target that did not answer. Only an answer can make Envoy wait.
local function after_silence(plan, state, now)
  local took = now - state.begun
  local silent = took >= plan.silence - EARLY
  local gone = silent or took >= CONNECT - EARLY and took < CONNECTED
  if gone then state.out[state.at] = 1 end
  local target, wait
  if string.find(plan.on, silent and "s" or "n", 1, true) then target, wait = choose(plan, state, now, not gone) end
  if wait == 0 then return target, silent end
  return nil, silent
end

-- between directs the attempt after this one.
local function between(handle)
  local metadata = handle:streamInfo():dynamicMetadata()
  local plan = read_plan(metadata)
  if not plan then
    handle:respond({[":status"] = "503"}, "")
    return
  end
  local state, now = read_state(metadata, plan), handle:timestamp()
  local target, silent = state.next, false
  if target == 0 then target, silent = after_silence(plan, state, now) end
  metadata:set(STATE, "made", tostring(state.made + (target and 1 or 0)))
  if not target then
    handle:respond({[":status"] = silent and "504" or "503"}, "")
    return
  end
  state.made, state.at, state.begun, state.next = state.made + 1, target, now, 0
  state.tries[target] = state.tries[target] + 1
  metadata:set(STATE, "state", state)
  handle:headers():replace(CLUSTER, plan.targets[target])
end

-- days returns those from 1970 to a date.
local function days(year, month, day)
  if month <= 2 then year, month = year - 1, month + 12 end
  return 365 * year + math.floor(year / 4) - math.floor(year / 100) + math.floor(year / 400) + math.floor((153 * month - 457) / 5) + day - 719469
end

-- retry_after returns the milliseconds that an answer asks to wait, or nil.
local function retry_after(headers, now)
  local ms = tonumber(headers:get("retry-after-ms") or "")
  if ms and ms >= 0 then return ms end
  local text = headers:get("retry-after") or ""
  local s = tonumber(text)
  if s then return s >= 0 and s * 1000 or nil end
  local day, name, year, h, m, sec = string.match(text, "^%a+, (%d+) (%a+) (%d+) (%d+):(%d+):(%d+) GMT$")
  local month = name and string.find("JanFebMarAprMayJunJulAugSepOctNovDec", name, 1, true)
  if not month then return nil end
  local at = (((days(tonumber(year), (month + 2) / 3, tonumber(day)) * 24 + h) * 60 + m) * 60 + sec) * 1000
  return math.max(0, at - now)
end

-- too_long says whether the answer says that the prompt is too long for this target, and another may have room;
-- those that have none are out then.
local function too_long(handle, headers, plan, state)
  local window, room = plan.windows[state.at], false
  for i, other in ipairs(plan.windows) do
    local small = i == state.at or window > 0 and other > 0 and other <= window
    if small then state.out[i] = 1 elseif state.out[i] == 0 then room = true end
  end
  if not room or (tonumber(headers:get("content-length") or "0") or 0) > MAX_ERROR then return false end
  local body = handle:body()
  if not body or body:length() > MAX_ERROR then return false end
  local text = string.lower(body:getBytes(0, body:length()))
  return holds_any(text, TOO_LONG) and not holds_any(text, REFUSED)
end

-- The kind of a status, as it stands in a plan's conditions; nil: the answer is for the caller.
local function kind_of(status)
  if status == 429 then return "l" end
  if status >= 500 then return "e" end
  if status == 400 or status == 413 or status == 422 then return "x" end
  return nil
end

-- after decides after an answer of an error status.
local function after(handle, headers, kind)
  local metadata = handle:streamInfo():dynamicMetadata()
  local plan = read_plan(metadata)
  if not plan or not string.find(plan.on, kind, 1, true) then return end
  local state, now = read_state(metadata, plan), handle:timestamp()
  local asked = kind ~= "x" and retry_after(headers, now) or nil
  if asked then state.from[state.at] = now + asked end
  if kind == "x" and not too_long(handle, headers, plan, state) then return end
  local target, wait = choose(plan, state, now, kind == "e" and not asked)
  if not target then return end
  -- Waiting for the body ended the scope of what was taken before.
  metadata, headers = handle:streamInfo():dynamicMetadata(), handle:headers()
  state.next = target
  metadata:set(STATE, "state", state)
  headers:replace(AGAIN, MARK)
  headers:remove(AGAIN_IN)
  if wait > 0 then headers:replace(AGAIN_IN, tostring(wait / 1000)) end
  -- From a provider behind another Envoy: ours would make no other attempt.
  headers:remove("x-envoy-ratelimited")
end

-- await_body keeps the headers of a stream back until its first bytes, where the plan counts headers alone as
-- silence. Headers stay while a call waits for an answer, and beyond, where the script then asks for the body's
-- chunks. So it makes a call that fails at once.
local function await_body(handle)
  local decision = handle:streamInfo():dynamicMetadata():get("logos")
  local text = decision and decision["p"]
  if not text or not string.find(text, "^[%d ]+%a*h") then return end
  handle:httpCall(BETWEEN, {[":method"] = "GET", [":path"] = "/", [":authority"] = BETWEEN}, "", 1000)
  local waits, chunks = pcall(handle.bodyChunks, handle)
  if not waits then return end -- there are bytes already
  for _ in chunks do return end
end

function envoy_on_response(handle)
  local headers = handle:headers()
  local status = tonumber(headers:get(":status"))
  local kind = kind_of(status)
  if kind then
    after(handle, headers, kind)
  elseif status < 300 then
    await_body(handle)
  end
end
