-- Prepares one attempt for its provider: path, host and body, from the decision's metadata.
function envoy_on_request(handle)
  local headers = handle:headers()
  local target = headers:get("x-logos-target")
  headers:remove("x-logos-target")
  if target == BETWEEN then return between(handle) end
  local decision = handle:streamInfo():dynamicMetadata():get("logos")
  local text = decision and target and decision[target]
  if not text then
    handle:respond({[":status"] = "503"}, "no rewrite for this target")
    return
  end
  local at = 1
  local function part()
    local colon = string.find(text, ":", at, true)
    local length = tonumber(string.sub(text, at, colon - 1))
    at = colon + 1 + length
    return string.sub(text, colon + 1, at - 1)
  end
  headers:replace(":path", part())
  headers:replace(":authority", part())
  if at > #text then return end
  local body = handle:body(true)
  local old = body:getBytes(0, body:length())
  local pieces, done = {}, 0
  while at <= #text do
    local offset, cut = tonumber(part()), tonumber(part())
    pieces[#pieces + 1] = string.sub(old, done + 1, offset)
    pieces[#pieces + 1] = part()
    done = offset + cut
  end
  pieces[#pieces + 1] = string.sub(old, done + 1)
  local length = body:setBytes(table.concat(pieces))
  -- Waiting for the body ended the scope of the headers that were taken before.
  handle:headers():replace("content-length", tostring(length))
end
