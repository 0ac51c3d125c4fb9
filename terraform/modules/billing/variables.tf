variable "name" {
  description = "Name of the budget, beginning of the other names."
  type        = string
  default     = "smartlog-monthly"
}

variable "limit_usd" {
  description = "The monthly budget."
  type        = number
  default     = 1
}

variable "email" {
  description = "Who gets the notices."
  type        = string
}
