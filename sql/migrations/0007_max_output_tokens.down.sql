-- lost: output limits of models | select count(*) from models where max_output_tokens is not null

alter table models drop column max_output_tokens;
