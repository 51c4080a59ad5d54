-- Back to records alone. Totals are made anew from those that are still there; what is lost of them is that of
-- calls that were removed.
-- lost: adjustments of what calls cost | select count(*) from adjustments
-- lost: totals of hours whose calls are no longer on record | select count(*) from usage_hours, ledger_state where hour < records_from

drop trigger note_recording on calls;
drop trigger cost_is_not_edited on calls;
drop trigger cost_is_not_edited on attempts;
drop trigger cost_is_not_edited on meters;
drop table ledger_state, usage_days, usage_hours, usage_meters, usage_series, adjustments, recordings;
drop function note_recording, ledger_is_append_only;
drop sequence recordings_sequence, adjustments_id;
